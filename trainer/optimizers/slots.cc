#include "trainer/optimizers/slots.h"

#include <algorithm>
#include <utility>

#include "ATen/ops/empty_like.h"
#include "ATen/ops/zeros.h"
#include "ATen/ops/zeros_like.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "nn/module.h"
#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {

Slots::Slots(const std::vector<TrainedParameter>& parameters, std::vector<StateTensor> state)
    : state_(std::move(state)) {
  c10::NoGradGuard no_grad;
  for (const TrainedParameter& parameter : parameters) {
    const at::Tensor& tensor = parameter.tensor;
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const SlotGroup& candidate) {
      const at::Tensor& other = candidate.slots.front().parameter;
      return candidate.learning_rate_scale == parameter.learning_rate_scale &&
             candidate.weight_decay_scale == parameter.weight_decay_scale && other.device() == tensor.device() &&
             other.scalar_type() == tensor.scalar_type();
    });
    if (group == groups_.end()) {
      group = groups_.insert(group, {parameter.learning_rate_scale, parameter.weight_decay_scale, {}});
    }
    Slot& slot = group->slots.emplace_back(Slot{parameter.name, tensor, {}});
    for (const StateTensor& kept : state_) {
      const at::TensorOptions scalar = at::TensorOptions().dtype(at::kFloat);
      const auto zeros = [&] { return UndrawnScope::active() ? at::empty_like(tensor) : at::zeros_like(tensor); };
      slot.state.push_back(kept.kind == StateTensor::Kind::kLikeParameter ? zeros()
                           : kept.kind == StateTensor::Kind::kOnDevice ? at::zeros({}, scalar.device(tensor.device()))
                                                                       : at::zeros({}, scalar));
    }
  }
}

std::vector<Slots::Group> Slots::WithGradients() const {
  std::vector<Group> all;
  for (const SlotGroup& group : groups_) {
    Group held{.learning_rate_scale = group.learning_rate_scale, .weight_decay_scale = group.weight_decay_scale};
    held.state.resize(state_.size());
    for (const Slot& slot : group.slots) {
      const at::Tensor& gradient = slot.parameter.grad();
      if (!gradient.defined()) continue;
      // The kernels walk both as flat memory.
      CHECK(gradient.is_contiguous() && slot.parameter.is_contiguous()) << "gradient of " << slot.name;
      held.parameters.push_back(slot.parameter);
      held.gradients.push_back(gradient);
      for (size_t i = 0; i < state_.size(); ++i) held.state[i].push_back(slot.state[i]);
    }
    if (!held.parameters.empty()) all.push_back(std::move(held));
  }
  return all;
}

void Slots::AddState(Safetensors& state) const {
  for (const SlotGroup& group : groups_) {
    for (const Slot& slot : group.slots) {
      for (size_t i = 0; i < state_.size(); ++i) {
        state.tensors.emplace_back(absl::StrCat(state_[i].name, ".", slot.name), slot.state[i]);
      }
    }
  }
}

absl::Status LoadOptimizerState(Safetensors from, const Safetensors& own) {
  return Annotate(LoadByName(std::move(from), own), "the optimizer's state is of another model or optimizer");
}

}  // namespace graticule
