#include "nn/layers.h"

#include <algorithm>
#include <vector>

#include "ATen/ops/addcmul.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/dropout.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/layer_norm.h"
#include "ATen/ops/linear.h"

namespace graticule {

Linear::Linear(int64_t in, int64_t out, bool bias, double std)
    : weight_(RegisterParameter("weight", init::TruncNormal(NewParameter({out, in}), std))) {
  if (bias) bias_ = RegisterParameter("bias", init::Zeros(NewParameter({out})));
}

at::Tensor Linear::Forward(const at::Tensor& x) const { return at::linear(x, weight_, bias_); }

LayerNorm::LayerNorm(int64_t width, double epsilon)
    : width_(width),
      epsilon_(epsilon),
      weight_(RegisterParameter("weight", init::Ones(NewParameter({width})))),
      bias_(RegisterParameter("bias", init::Zeros(NewParameter({width})))) {}

at::Tensor LayerNorm::Forward(const at::Tensor& x) const {
  return at::layer_norm(x, {width_}, weight_, bias_, epsilon_);
}

at::Tensor Dropout::Forward(const at::Tensor& x) const {
  return training() && rate_ > 0 ? at::dropout(x, rate_, /*train=*/true) : x;
}

at::Tensor DropPath::Add(const at::Tensor& residual, const at::Tensor& branch) const {
  if (!training() || rate_ == 0) return residual.add(branch);
  const double keep = 1 - rate_;
  std::vector<int64_t> per_sample(residual.dim(), 1);
  per_sample[0] = residual.size(0);
  const at::Tensor scale = at::empty(per_sample, residual.options()).bernoulli_(keep).div_(keep);
  return at::addcmul(residual, branch, scale);
}

double DropPathRate(double last, int64_t layer, int64_t depth) {
  return last * layer / std::max<int64_t>(depth - 1, 1);
}

Mlp::Mlp(int64_t width, int64_t hidden, double dropout, const MlpNames& names)
    : fc1_(width, hidden), fc2_(hidden, width), dropout_(dropout) {
  RegisterModule(names.first, &fc1_);
  RegisterModule(names.second, &fc2_);
  RegisterModule("dropout", &dropout_);
}

at::Tensor Mlp::Forward(const at::Tensor& x) const {
  return dropout_.Forward(fc2_.Forward(dropout_.Forward(at::gelu(fc1_.Forward(x)))));
}

at::Tensor PrependTokens(at::TensorList prefix, const at::Tensor& x) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& tokens : prefix) {
    if (tokens.defined()) parts.push_back(tokens.expand({x.size(0), -1, -1}));
  }
  if (parts.empty()) return x;
  parts.push_back(x);
  return at::cat(parts, 1);
}

at::Tensor MapLastTokens(const at::Tensor& x, int64_t count, const std::function<at::Tensor(const at::Tensor&)>& map) {
  const int64_t prefix = x.size(1) - count;
  return prefix == 0 ? map(x) : at::cat({x.narrow(1, 0, prefix), map(x.narrow(1, prefix, count))}, 1);
}

}  // namespace graticule
