#include "trainer/optimizers/lion/lion.h"

#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/ops/_foreach_add.h"
#include "ATen/ops/_foreach_lerp.h"
#include "ATen/ops/_foreach_mul.h"
#include "ATen/ops/_foreach_sign.h"
#include "c10/core/GradMode.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/optimizers/checks.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Optimizer>> LionOptimizer::Create(const Lion& given, const OptimizerContext& context) {
  Lion config;
  config.set_beta1(0.9);
  config.set_beta2(0.99);
  config.MergeFrom(given);
  FieldErrors errors;
  CheckBeta(errors, "beta1", config.beta1());
  CheckBeta(errors, "beta2", config.beta2());
  CheckNotNegative(errors, "weight_decay", config.weight_decay());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Optimizer>(new LionOptimizer(config, context));
}

LionOptimizer::LionOptimizer(const Lion& config, const OptimizerContext& context)
    : config_(config), slots_(context.parameters, {{"exp_avg"}}) {}

void LionOptimizer::Step(double learning_rate) {
  c10::NoGradGuard no_grad;
  for (const Slots::Group& group : slots_.WithGradients()) {
    const double rate = learning_rate * group.learning_rate_scale;
    const double weight_decay = config_.weight_decay() * group.weight_decay_scale;
    const std::vector<at::Tensor>& exp_avgs = group.state[0];
    std::vector<at::Tensor> updates = at::_foreach_mul(exp_avgs, config_.beta1());
    at::_foreach_add_(updates, group.gradients, 1 - config_.beta1());
    at::_foreach_sign_(updates);
    if (weight_decay != 0) at::_foreach_mul_(group.parameters, 1 - rate * weight_decay);
    at::_foreach_add_(group.parameters, updates, -rate);
    at::_foreach_lerp_(exp_avgs, group.gradients, 1 - config_.beta2());
  }
}

Safetensors LionOptimizer::State() const {
  Safetensors state;
  slots_.AddState(state);
  return state;
}

absl::Status LionOptimizer::LoadState(Safetensors state) { return LoadOptimizerState(std::move(state), State()); }

namespace {
const Registration<Optimizer, Lion> kRegistration("Lion: steps along the sign of a momentum", "weight_decay: 0.5",
                                                  &LionOptimizer::Create);
}  // namespace
}  // namespace graticule
