#include "trainer/optimizers/sgd/sgd.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/ops/_foreach_add.h"
#include "ATen/ops/_fused_sgd.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/optimizers/checks.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Optimizer>> SgdOptimizer::Create(const Sgd& given, const OptimizerContext& context) {
  Sgd config;
  config.set_momentum(0.9);
  config.MergeFrom(given);
  FieldErrors errors;
  CheckBeta(errors, "momentum", config.momentum());
  if (!(config.dampening() >= 0 && config.dampening() <= 1)) {
    errors.Add("dampening", absl::StrCat("must be in [0, 1], found ", config.dampening()));
  }
  if (config.nesterov() && (config.momentum() == 0 || config.dampening() != 0)) {
    errors.Add("nesterov", absl::StrCat("needs a momentum and no dampening, found ", config.momentum(), " and ",
                                        config.dampening()));
  }
  CheckNotNegative(errors, "weight_decay", config.weight_decay());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Optimizer>(new SgdOptimizer(config, context));
}

SgdOptimizer::SgdOptimizer(const Sgd& config, const OptimizerContext& context)
    : config_(config),
      slots_(context.parameters,
             config.momentum() > 0 ? std::vector<StateTensor>{{"momentum_buffer"}, {"step", StateTensor::Kind::kOnHost}}
                                   : std::vector<StateTensor>()) {}

void SgdOptimizer::Step(double learning_rate) {
  c10::NoGradGuard no_grad;
  for (const Slots::Group& group : slots_.WithGradients()) {
    const auto step = [&](const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& gradients,
                          const std::vector<at::Tensor>& momentum_buffers, bool is_first) {
      if (parameters.empty()) return;
      at::_fused_sgd_(parameters, gradients, momentum_buffers, config_.weight_decay() * group.weight_decay_scale,
                      config_.momentum(), learning_rate * group.learning_rate_scale, config_.dampening(),
                      config_.nesterov(), /*maximize=*/false, is_first);
    };
    if (group.state.empty()) {
      step(group.parameters, group.gradients, {}, /*is_first=*/true);
      continue;
    }
    const std::vector<at::Tensor>&momentum_buffers = group.state[0], &steps = group.state[1];
    // The first gradient of a parameter is not damped.
    for (const bool is_first : {true, false}) {
      std::vector<at::Tensor> parameters, gradients, buffers;
      for (size_t i = 0; i < group.parameters.size(); ++i) {
        if ((*steps[i].const_data_ptr<float>() == 0) != is_first) continue;
        parameters.push_back(group.parameters[i]);
        gradients.push_back(group.gradients[i]);
        buffers.push_back(momentum_buffers[i]);
      }
      step(parameters, gradients, buffers, is_first);
    }
    at::_foreach_add_(steps, 1);
  }
}

Safetensors SgdOptimizer::State() const {
  Safetensors state;
  slots_.AddState(state);
  return state;
}

absl::Status SgdOptimizer::LoadState(Safetensors state) { return LoadOptimizerState(std::move(state), State()); }

namespace {
const Registration<Optimizer, Sgd> kRegistration("Stochastic gradient descent with momentum", "momentum: 0.9",
                                                 &SgdOptimizer::Create);
}  // namespace
}  // namespace graticule
