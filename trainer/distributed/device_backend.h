// The collectives of a device: NCCL's where the build has CUDA.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_DEVICE_BACKEND_H_
#define GRATICULE_TRAINER_DISTRIBUTED_DEVICE_BACKEND_H_

#include <chrono>

#include "c10/core/Device.h"
#include "torch/csrc/distributed/c10d/Backend.hpp"
#include "torch/csrc/distributed/c10d/Store.hpp"

namespace graticule {

// Null where this build has none for `device`. Throws as c10d does.
c10::intrusive_ptr<c10d::Backend> MakeDeviceBackend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    c10::Device device, std::chrono::milliseconds timeout);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_DEVICE_BACKEND_H_
