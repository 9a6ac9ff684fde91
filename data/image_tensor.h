// Images out of tensors.
#ifndef GRATICULE_DATA_IMAGE_TENSOR_H_
#define GRATICULE_DATA_IMAGE_TENSOR_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "data/image.h"

namespace graticule {

// The image at `index` of a loader's batch: [B,3,H,W] uint8 on the CPU, strided in any way.
Image ImageOf(const at::Tensor& images, int64_t index);

}  // namespace graticule

#endif  // GRATICULE_DATA_IMAGE_TENSOR_H_
