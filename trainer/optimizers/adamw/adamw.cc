#include "trainer/optimizers/adamw/adamw.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "ATen/ops/_foreach_add.h"
#include "ATen/ops/_fused_adamw.h"
#include "ATen/ops/zeros.h"
#include "ATen/ops/zeros_like.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Optimizer>> AdamWOptimizer::Create(const AdamW& config,
                                                                  const OptimizerContext& context) {
  FieldErrors errors;
  const auto check_beta = [&](const char* field, bool given, double value) {
    if (given && !(value >= 0 && value < 1)) errors.Add(field, absl::StrCat("must be in [0, 1), found ", value));
  };
  check_beta("beta1", config.has_beta1(), config.beta1());
  check_beta("beta2", config.has_beta2(), config.beta2());
  if (config.has_epsilon() && !(config.epsilon() > 0 && std::isfinite(config.epsilon()))) {
    errors.Add("epsilon", absl::StrCat("must be positive, found ", config.epsilon()));
  }
  if (config.has_weight_decay() && !(config.weight_decay() >= 0 && std::isfinite(config.weight_decay()))) {
    errors.Add("weight_decay", absl::StrCat("must not be negative, found ", config.weight_decay()));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Optimizer>(new AdamWOptimizer(config, context));
}

AdamWOptimizer::AdamWOptimizer(const AdamW& config, const OptimizerContext& context)
    : beta1_(config.has_beta1() ? config.beta1() : 0.9),
      beta2_(config.has_beta2() ? config.beta2() : 0.999),
      epsilon_(config.has_epsilon() ? config.epsilon() : 1e-8),
      weight_decay_(config.has_weight_decay() ? config.weight_decay() : 0.05) {
  c10::NoGradGuard no_grad;
  for (const TrainedParameter& parameter : context.parameters) {
    const at::Tensor& tensor = parameter.tensor;
    const double weight_decay = parameter.weight_decay_scale * weight_decay_;
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& candidate) {
      const at::Tensor& other = candidate.slots.front().parameter;
      return candidate.learning_rate_scale == parameter.learning_rate_scale && candidate.weight_decay == weight_decay &&
             other.device() == tensor.device() && other.scalar_type() == tensor.scalar_type();
    });
    if (group == groups_.end()) group = groups_.insert(group, Group{parameter.learning_rate_scale, weight_decay, {}});
    group->slots.push_back({parameter.name, tensor, at::zeros_like(tensor), at::zeros_like(tensor),
                            at::zeros({}, tensor.options().dtype(at::kFloat).requires_grad(false))});
  }
}

void AdamWOptimizer::Step(double learning_rate) {
  c10::NoGradGuard no_grad;
  for (const Group& group : groups_) {
    std::vector<at::Tensor> parameters, gradients, exp_avgs, exp_avg_sqs, steps;
    for (const Slot& slot : group.slots) {
      const at::Tensor& gradient = slot.parameter.grad();
      if (!gradient.defined()) continue;
      // The CPU's kernel walks both as flat memory.
      CHECK(gradient.is_contiguous() && slot.parameter.is_contiguous()) << "gradient of " << slot.name;
      parameters.push_back(slot.parameter);
      gradients.push_back(gradient);
      exp_avgs.push_back(slot.exp_avg);
      exp_avg_sqs.push_back(slot.exp_avg_sq);
      steps.push_back(slot.step);
    }
    if (parameters.empty()) continue;
    at::_foreach_add_(steps, 1);
    at::_fused_adamw_(parameters, gradients, exp_avgs, exp_avg_sqs, /*max_exp_avg_sqs=*/{}, steps,
                      learning_rate * group.learning_rate_scale, beta1_, beta2_, group.weight_decay, epsilon_,
                      /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

Safetensors AdamWOptimizer::State() const {
  Safetensors state;
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      state.tensors.emplace_back("exp_avg." + slot.name, slot.exp_avg);
      state.tensors.emplace_back("exp_avg_sq." + slot.name, slot.exp_avg_sq);
      state.tensors.emplace_back("step." + slot.name, slot.step);
    }
  }
  return state;
}

absl::Status AdamWOptimizer::LoadState(const Safetensors& state) {
  return Annotate(CopyByName(state, State()), "the optimizer's state is of another model or optimizer");
}

namespace {
const Registration<Optimizer, AdamW> kRegistration("Adam with decoupled weight decay", "weight_decay: 0.05",
                                                   &AdamWOptimizer::Create);
}  // namespace
}  // namespace graticule
