#include "data/image_tensor.h"

#include <cstring>

namespace graticule {

Image ImageOf(const at::Tensor& images, int64_t index) {
  const at::Tensor pixels = images.select(0, index).permute({1, 2, 0}).contiguous();
  Image image{pixels.size(0), pixels.size(1), Pixels(pixels.numel())};
  std::memcpy(image.pixels.data(), pixels.const_data_ptr<uint8_t>(), image.pixels.size());
  return image;
}

}  // namespace graticule
