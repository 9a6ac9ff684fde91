// Conditional position encoding (CPVT, arXiv 2102.10882): a position that comes from the neighbours.
#ifndef GRATICULE_NN_CONDITIONAL_POSITION_H_
#define GRATICULE_NN_CONDITIONAL_POSITION_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "ATen/core/Tensor.h"
#include "nn/conv.h"
#include "nn/module.h"
#include "nn/token_map.h"

namespace graticule {

// x + a depth-wise 3×3 convolution of x on the grid, with zero padding, which is how a token learns where the border
// is. Parameters NAME.weight [D,1,3,3] and NAME.bias [D], without weight decay.
class ConditionalPosition : public Module {
 public:
  ConditionalPosition(std::string_view name, int64_t width);
  // [B,N,D] to the same.
  at::Tensor Forward(const at::Tensor& x, Size2d grid) const;
  std::string TypeName() const override { return "ConditionalPosition"; }

 private:
  Conv2d conv_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_CONDITIONAL_POSITION_H_
