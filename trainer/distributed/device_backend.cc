#include "trainer/distributed/device_backend.h"

#include <chrono>
#include <cstdlib>

#ifdef GRATICULE_CUDA
#include "torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"
#endif

namespace graticule {

c10::intrusive_ptr<c10d::Backend> MakeDeviceBackend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    c10::Device device, std::chrono::milliseconds timeout) {
#ifdef GRATICULE_CUDA
  if (device.is_cuda()) {
    // By default NCCL's watchdog ends the process where a collective fails, before anybody could say why; the heartbeat
    // watches instead.
    setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
  }
#endif
  return nullptr;
}

}  // namespace graticule
