#include "trainer/optimizers/adamw/adamw.h"

#include <utility>

#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/optimizers/checks.h"
#include "trainer/optimizers/slots.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Optimizer>> AdamWOptimizer::Create(const AdamW& given, const OptimizerContext& context) {
  AdamW config;
  config.set_beta1(0.9);
  config.set_beta2(0.999);
  config.set_epsilon(1e-8);
  config.set_weight_decay(0.05);
  config.MergeFrom(given);
  FieldErrors errors;
  CheckBeta(errors, "beta1", config.beta1());
  CheckBeta(errors, "beta2", config.beta2());
  CheckPositive(errors, "epsilon", config.epsilon());
  CheckNotNegative(errors, "weight_decay", config.weight_decay());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Optimizer>(
      new AdamWOptimizer(FusedAdamW(context.parameters, {.beta1 = config.beta1(),
                                                         .beta2 = config.beta2(),
                                                         .epsilon = config.epsilon(),
                                                         .weight_decay = config.weight_decay()})));
}

Safetensors AdamWOptimizer::State() const {
  Safetensors state;
  step_.AddState(state);
  return state;
}

absl::Status AdamWOptimizer::LoadState(Safetensors state) { return LoadOptimizerState(std::move(state), State()); }

namespace {
const Registration<Optimizer, AdamW> kRegistration("Adam with decoupled weight decay", "weight_decay: 0.05",
                                                   &AdamWOptimizer::Create);
}  // namespace
}  // namespace graticule
