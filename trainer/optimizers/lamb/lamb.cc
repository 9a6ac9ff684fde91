#include "trainer/optimizers/lamb/lamb.h"

#include <cmath>
#include <utility>
#include <vector>

#include "ATen/ops/_foreach_add.h"
#include "ATen/ops/_foreach_addcmul.h"
#include "ATen/ops/_foreach_div.h"
#include "ATen/ops/_foreach_lerp.h"
#include "ATen/ops/_foreach_mul.h"
#include "ATen/ops/_foreach_norm.h"
#include "ATen/ops/_foreach_sqrt.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/where.h"
#include "c10/core/GradMode.h"
#include "c10/core/Scalar.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/optimizers/checks.h"
#include "trainer/optimizers/clip.h"

namespace graticule {
namespace {

// ‖w‖ / ‖u‖ of each weight and step; 1 where either is 0.
std::vector<at::Tensor> TrustRatios(const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& steps,
                                    bool clip) {
  const at::Tensor w = at::stack(at::_foreach_norm(weights, 2)), u = at::stack(at::_foreach_norm(steps, 2));
  at::Tensor ratios = at::where(w.gt(0).logical_and(u.gt(0)), w.div(u), 1.0);
  if (clip) ratios = ratios.clamp_max(1.0);
  return ratios.unbind();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> LambOptimizer::Create(const Lamb& given, const OptimizerContext& context) {
  Lamb config;
  config.set_beta1(0.9);
  config.set_beta2(0.999);
  config.set_epsilon(1e-6);
  config.set_weight_decay(0.01);
  config.set_bias_correction(true);
  config.set_max_grad_norm(1);
  config.MergeFrom(given);
  FieldErrors errors;
  CheckBeta(errors, "beta1", config.beta1());
  CheckBeta(errors, "beta2", config.beta2());
  CheckPositive(errors, "epsilon", config.epsilon());
  CheckNotNegative(errors, "weight_decay", config.weight_decay());
  CheckNotNegative(errors, "max_grad_norm", config.max_grad_norm());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Optimizer>(new LambOptimizer(config, context));
}

LambOptimizer::LambOptimizer(const Lamb& config, const OptimizerContext& context)
    : config_(config), slots_(context.parameters, {{"mean"}, {"mean_square"}, {"step", StateTensor::Kind::kOnHost}}) {}

void LambOptimizer::Step(double learning_rate) {
  c10::NoGradGuard no_grad;
  const std::vector<Slots::Group> groups = slots_.WithGradients();
  at::Tensor clip;
  if (config_.max_grad_norm() > 0 && !groups.empty()) {
    std::vector<at::Tensor> all;
    for (const Slots::Group& group : groups) all.insert(all.end(), group.gradients.begin(), group.gradients.end());
    clip = GlobalNorm(all).div(config_.max_grad_norm()).clamp_min(1.0).reciprocal();
  }
  for (const Slots::Group& group : groups) StepGroup(group, clip, learning_rate * group.learning_rate_scale);
}

void LambOptimizer::StepGroup(const Slots::Group& group, const at::Tensor& clip, double learning_rate) const {
  const std::vector<at::Tensor>&means = group.state[0], &mean_squares = group.state[1], &steps = group.state[2];
  {
    const std::vector<at::Tensor> gradients =
        clip.defined() ? at::_foreach_mul(group.gradients, clip) : group.gradients;
    at::_foreach_lerp_(means, gradients, 1 - config_.beta1());
    at::_foreach_mul_(mean_squares, config_.beta2());
    at::_foreach_addcmul_(mean_squares, gradients, gradients, 1 - config_.beta2());
  }

  at::_foreach_add_(steps, 1);
  std::vector<c10::Scalar> corrections, root_corrections;
  for (const at::Tensor& step : steps) {
    const double t = config_.bias_correction() ? *step.const_data_ptr<float>() : INFINITY;
    corrections.emplace_back(1 - std::pow(config_.beta1(), t));
    root_corrections.emplace_back(std::sqrt(1 - std::pow(config_.beta2(), t)));
  }
  std::vector<at::Tensor> denominators = at::_foreach_sqrt(mean_squares);
  at::_foreach_div_(denominators, root_corrections);
  at::_foreach_add_(denominators, config_.epsilon());
  std::vector<at::Tensor> updates = at::_foreach_div(means, corrections);
  at::_foreach_div_(updates, denominators);

  const double weight_decay = config_.weight_decay() * group.weight_decay_scale;
  if (weight_decay != 0) at::_foreach_add_(updates, group.parameters, weight_decay);
  if (weight_decay != 0 || config_.always_adapt()) {
    at::_foreach_mul_(updates, TrustRatios(group.parameters, updates, config_.trust_clip()));
  }
  at::_foreach_add_(group.parameters, updates, -learning_rate);
}

Safetensors LambOptimizer::State() const {
  Safetensors state;
  slots_.AddState(state);
  return state;
}

absl::Status LambOptimizer::LoadState(Safetensors state) { return LoadOptimizerState(std::move(state), State()); }

namespace {
const Registration<Optimizer, Lamb> kRegistration(
    "LAMB: Adam with steps in proportion to the weights, for large batches", "weight_decay: 0.02",
    &LambOptimizer::Create);
}  // namespace
}  // namespace graticule
