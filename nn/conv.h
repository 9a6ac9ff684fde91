// Convolutions and what goes with them, for backbones that are not made of attention alone.
#ifndef GRATICULE_NN_CONV_H_
#define GRATICULE_NN_CONV_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/module.h"

namespace graticule {

struct Conv2dOptions {
  int64_t in = 0;
  int64_t out = 0;
  int64_t kernel = 1;  // height and width
  int64_t stride = 1;
  int64_t padding = 0;  // zeros on each side
  int64_t groups = 1;   // `in` of them: depth-wise
  bool bias = true;
  bool decay = true;  // weight decay of the weight
};

// Parameters weight [out,in/groups,k,k] and bias [out], which start as PyTorch's convolutions do: uniform within
// ±1/√(in/groups·k·k).
class Conv2d : public Module {
 public:
  explicit Conv2d(const Conv2dOptions& options);
  // [B,in,H,W] in any memory format to [B,out,H',W'].
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "Conv2d"; }

 private:
  Conv2dOptions options_;
  at::Tensor weight_;
  at::Tensor bias_;  // undefined without one
};

// Over the channels, axis 1. Parameters weight (scale, 1 at first) and bias (shift, 0 at first); buffers running_mean,
// running_var and num_batches_tracked, updated in train mode and used in eval mode, as in PyTorch. One whose parameters
// are frozen is in eval mode always, as timm's FrozenBatchNorm.
class BatchNorm : public Module {
 public:
  explicit BatchNorm(int64_t channels, double epsilon = 1e-5, double momentum = 0.1);
  // [B,C,...] to the same.
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "BatchNorm"; }

 private:
  double epsilon_;
  double momentum_;
  at::Tensor weight_, bias_;
  at::Tensor running_mean_, running_var_, num_batches_tracked_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_CONV_H_
