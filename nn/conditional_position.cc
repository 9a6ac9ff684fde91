#include "nn/conditional_position.h"

namespace graticule {

ConditionalPosition::ConditionalPosition(std::string_view name, int64_t width)
    : conv_({.in = width, .out = width, .kernel = 3, .padding = 1, .groups = width, .decay = false}) {
  RegisterModule(name, &conv_);
}

at::Tensor ConditionalPosition::Forward(const at::Tensor& x, Size2d grid) const {
  // The tokens as a channels-last map: no copy.
  const at::Tensor map = x.unflatten(1, {grid.height, grid.width}).permute({0, 3, 1, 2});
  return x.add(conv_.Forward(map).permute({0, 2, 3, 1}).flatten(1, 2));
}

}  // namespace graticule
