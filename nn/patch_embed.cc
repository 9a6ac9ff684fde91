#include "nn/patch_embed.h"

#include <cmath>

#include "ATen/ops/linear.h"
#include "plugin/logging.h"

namespace graticule {

PatchEmbed::PatchEmbed(int64_t channels, int64_t patch_size, int64_t width) : patch_size_(patch_size) {
  const double bound = 1 / std::sqrt(static_cast<double>(channels * patch_size * patch_size));
  weight_ = RegisterParameter("proj.weight",
                              init::Uniform(NewParameter({width, channels, patch_size, patch_size}), -bound, bound));
  bias_ = RegisterParameter("proj.bias", init::Uniform(NewParameter({width}), -bound, bound));
}

at::Tensor PatchEmbed::Forward(const at::Tensor& images) const {
  const int64_t batch = images.size(0), channels = images.size(1), p = patch_size_;
  const int64_t rows = images.size(2) / p, columns = images.size(3) / p;
  CHECK(rows * p == images.size(2) && columns * p == images.size(3)) << "patches must tile the image";
  // One copy and one matrix product: patches don't overlap, so no convolution is needed.
  const at::Tensor patches = images.reshape({batch, channels, rows, p, columns, p})
                                 .permute({0, 2, 4, 1, 3, 5})
                                 .reshape({batch, rows * columns, channels * p * p});
  return at::linear(patches, weight_.view({weight_.size(0), -1}), bias_);
}

}  // namespace graticule
