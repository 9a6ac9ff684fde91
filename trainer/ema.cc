#include "trainer/ema.h"

#include <string>
#include <vector>

#include "ATen/ops/_foreach_lerp.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"

namespace graticule {

Ema::Ema(double decay, std::vector<NamedParameter> parameters, std::vector<NamedBuffer> buffers) : decay_(decay) {
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

void Ema::Update() {
  c10::NoGradGuard no_grad;
  at::_foreach_lerp_(averages_, weights_, 1 - decay_);
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
  const auto load = [&](const std::vector<std::string>& names, std::vector<at::Tensor>& into) {
    for (size_t i = 0; i < names.size(); ++i) {
      const at::Tensor tensor = state.Find(names[i]);
      if (!tensor.defined() || tensor.sizes() != into[i].sizes()) {
        return absl::FailedPreconditionError(
            absl::StrCat("the moving average of ", names[i], " is missing or has another shape"));
      }
      into[i].copy_(tensor);
    }
    return absl::OkStatus();
  };
  const absl::Status loaded = load(names_, averages_);
  return loaded.ok() ? load(buffer_names_, buffer_copies_) : loaded;
}

}  // namespace graticule
