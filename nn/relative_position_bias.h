// Learned biases of the attention's logits by the offset of two patches.
#ifndef GRATICULE_NN_RELATIVE_POSITION_BIAS_H_
#define GRATICULE_NN_RELATIVE_POSITION_BIAS_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/attention.h"
#include "nn/token_map.h"

namespace graticule {

// Swin's (arXiv 2103.14030): the logit of query i and key j gets table[(Δrow + h-1)·(2w-1) + Δcolumn + w-1][head] with
// Δ = i - j. Parameter relative_position_bias_table [(2h-1)(2w-1),H], without weight decay; with prefix tokens three
// rows more, for prefix to patch, patch to prefix, and prefix to prefix (BEiT's and timm's).
class RelativePositionBias : public AttentionEncoding {
 public:
  RelativePositionBias(Size2d window, int64_t heads, int64_t prefix_tokens = 0);
  // [H,T,T].
  at::Tensor Bias(const at::Tensor& q) const override;
  std::string TypeName() const override { return "RelativePositionBias"; }

 private:
  int64_t tokens_;
  at::Tensor table_;
  at::Tensor index_;  // [T·T] int64
};

// A table of a checkpoint [(2h'-1)(2w'-1),H] of a square window made to fit another window, by bicubic interpolation
// as Swin's code does it; undefined where it is not of a square window or its heads are others.
at::Tensor AdaptRelativePositionBias(const at::Tensor& loaded, Size2d window, int64_t heads, int64_t prefix_tokens = 0);

}  // namespace graticule

#endif  // GRATICULE_NN_RELATIVE_POSITION_BIAS_H_
