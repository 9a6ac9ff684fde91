#include "trainer/ema.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/_foreach_lerp.h"
#include "c10/core/GradMode.h"
#include "plugin/status.h"

namespace graticule {

Ema::Ema(double decay, bool warmup, const std::vector<NamedParameter>& parameters,
         const std::vector<NamedBuffer>& buffers)
    : decay_(decay), warmup_(warmup) {
  for (const NamedParameter& parameter : parameters) {
    averaged_names_.push_back(parameter.name);
    weights_.push_back(parameter.tensor);
  }
  for (const NamedBuffer& buffer : buffers) {
    const bool averaged = buffer.tensor.is_floating_point();
    (averaged ? averaged_names_ : copied_names_).push_back(buffer.name);
    (averaged ? weights_ : originals_).push_back(buffer.tensor);
  }
  for (const at::Tensor& tensor : weights_) averages_.push_back(tensor.detach().clone());
  for (const at::Tensor& tensor : originals_) copies_.push_back(tensor.detach().clone());
}

double Ema::Decay(int64_t step) const {
  if (!warmup_) return decay_;
  return std::min(decay_, 1 - std::pow(1 + static_cast<double>(step), -2.0 / 3));
}

void Ema::Update(int64_t step) {
  c10::NoGradGuard no_grad;
  at::_foreach_lerp_(averages_, weights_, 1 - Decay(step));
  for (size_t i = 0; i < copies_.size(); ++i) copies_[i].copy_(originals_[i]);
}

void Ema::Swap() {
  c10::NoGradGuard no_grad;
  const auto swap = [](std::vector<at::Tensor>& a, std::vector<at::Tensor>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
      const at::Tensor held = b[i];
      b[i] = a[i].detach();
      a[i].set_data(held);
    }
  };
  swap(weights_, averages_);
  swap(originals_, copies_);
}

Safetensors Ema::State() const {
  Safetensors state;
  for (size_t i = 0; i < averages_.size(); ++i) state.tensors.emplace_back(averaged_names_[i], averages_[i]);
  for (size_t i = 0; i < copies_.size(); ++i) state.tensors.emplace_back(copied_names_[i], copies_[i]);
  return state;
}

absl::Status Ema::LoadState(Safetensors state) {
  return Annotate(LoadByName(std::move(state), State()), "the moving average is of another model");
}

}  // namespace graticule
