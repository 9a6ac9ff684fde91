#include "trainer/ema.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ATen/ops/_foreach_lerp.h"
#include "c10/core/GradMode.h"
#include "plugin/status.h"

namespace graticule {

Ema::Ema(double decay, bool warmup, const std::vector<NamedParameter>& parameters,
         const std::vector<NamedBuffer>& buffers)
    : decay_(decay), warmup_(warmup) {
  for (const NamedParameter& parameter : parameters) {
    names_.push_back(parameter.name);
    weights_.push_back(parameter.tensor);
    averages_.push_back(parameter.tensor.detach().clone());
  }
  for (const NamedBuffer& buffer : buffers) {
    buffer_names_.push_back(buffer.name);
    buffers_.push_back(buffer.tensor);
    buffer_copies_.push_back(buffer.tensor.detach().clone());
  }
}

double Ema::Decay(int64_t step) const {
  if (!warmup_) return decay_;
  return std::min(decay_, 1 - std::pow(1 + static_cast<double>(step), -2.0 / 3));
}

void Ema::Update(int64_t step) {
  c10::NoGradGuard no_grad;
  at::_foreach_lerp_(averages_, weights_, 1 - Decay(step));
  for (size_t i = 0; i < buffers_.size(); ++i) buffer_copies_[i].copy_(buffers_[i]);
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
  swap(buffers_, buffer_copies_);
}

Safetensors Ema::State() const {
  Safetensors state;
  for (size_t i = 0; i < names_.size(); ++i) state.tensors.emplace_back(names_[i], averages_[i]);
  for (size_t i = 0; i < buffer_names_.size(); ++i) state.tensors.emplace_back(buffer_names_[i], buffer_copies_[i]);
  return state;
}

absl::Status Ema::LoadState(const Safetensors& state) {
  return Annotate(CopyByName(state, State()), "the moving average is of another model");
}

}  // namespace graticule
