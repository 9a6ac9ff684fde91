#include "trainer/distributed/device_backend.h"

#include <chrono>

#ifdef GRATICULE_CUDA
#include "torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"
#endif

namespace graticule {

c10::intrusive_ptr<c10d::Backend> MakeDeviceBackend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    c10::Device device, std::chrono::milliseconds timeout) {
#ifdef GRATICULE_CUDA
  if (device.is_cuda()) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
  }
#endif
  return nullptr;
}

}  // namespace graticule
