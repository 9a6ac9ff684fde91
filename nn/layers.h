// The small blocks that every vision transformer is made of.
#ifndef GRATICULE_NN_LAYERS_H_
#define GRATICULE_NN_LAYERS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "ATen/core/Tensor.h"
#include "nn/module.h"

namespace graticule {

// y = x·Wᵀ + b; parameters weight [out,in] and bias [out]. The weight starts as a normal of `std` cut at ±2, the bias
// as 0.
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool bias = true, double std = 0.02);
  // [...,in] to [...,out].
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "Linear"; }

 private:
  at::Tensor weight_;
  at::Tensor bias_;  // undefined without one
};

// Over the last axis, of length `width`; parameters weight (scale, 1 at first) and bias (shift, 0 at first).
class LayerNorm : public Module {
 public:
  LayerNorm(int64_t width, double epsilon);
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "LayerNorm"; }

 private:
  int64_t width_;
  double epsilon_;
  at::Tensor weight_;
  at::Tensor bias_;
};

// Sets each entry to 0 with probability `rate` and scales the others by 1 / (1 - rate), in train mode.
class Dropout : public Module {
 public:
  explicit Dropout(double rate) : rate_(rate) {}
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "Dropout"; }

 private:
  double rate_;
};

// Stochastic depth (arXiv 1603.09382): in train mode the branch of a sample is left out with probability `rate`, and
// scaled by 1 / (1 - rate) where it stays. Draws from the default generator of the device.
class DropPath : public Module {
 public:
  explicit DropPath(double rate) : rate_(rate) {}
  // residual [B,...] + branch [B,...].
  at::Tensor Add(const at::Tensor& residual, const at::Tensor& branch) const;
  std::string TypeName() const override { return "DropPath"; }

 private:
  double rate_;
};

// Its rate in a layer of `depth`: it grows linearly from 0 in the first layer to `last` in the last.
double DropPathRate(double last, int64_t layer, int64_t depth);

// What the two maps of an Mlp are called among its parameters.
struct MlpNames {
  std::string_view first = "fc1";
  std::string_view second = "fc2";
};

// fc2(GELU(fc1(x))), with the exact (erf) GELU; [...,width] to [...,width].
class Mlp : public Module {
 public:
  Mlp(int64_t width, int64_t hidden, double dropout = 0, const MlpNames& names = {});
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "Mlp"; }

 private:
  Linear fc1_;
  Linear fc2_;
  Dropout dropout_;
};

// x [B,N,D] behind those of `prefix` [1,P,D] that are defined.
at::Tensor PrependTokens(at::TensorList prefix, const at::Tensor& x);

// x [B,P+N,D] with `map` of its last `count` tokens, which keeps their shape, in their place.
at::Tensor MapLastTokens(const at::Tensor& x, int64_t count, const std::function<at::Tensor(const at::Tensor&)>& map);

}  // namespace graticule

#endif  // GRATICULE_NN_LAYERS_H_
