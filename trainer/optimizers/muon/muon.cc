#include "trainer/optimizers/muon/muon.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "ATen/ops/_foreach_lerp.h"
#include "ATen/ops/_foreach_mul.h"
#include "ATen/ops/baddbmm.h"
#include "ATen/ops/bmm.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/stack.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/optimizers/checks.h"

namespace graticule {
namespace {

// Of matrices that are made orthogonal together: more would take memory and save no time.
constexpr int64_t kMostElements = int64_t{1} << 25;

Muon WithDefaults(const Muon& given) {
  Muon config;
  config.set_momentum(0.95);
  config.set_nesterov(true);
  config.set_weight_decay(0.1);
  config.set_iterations(5);
  config.set_adamw_learning_rate(1);
  config.set_adamw_beta1(0.9);
  config.set_adamw_beta2(0.95);
  config.set_adamw_epsilon(1e-8);
  config.MergeFrom(given);
  if (!config.has_adamw_weight_decay()) config.set_adamw_weight_decay(config.weight_decay());
  return config;
}

// [O,I] of a matrix and of a kernel [O,C,…].
std::pair<int64_t, int64_t> MatrixShape(const at::Tensor& tensor) {
  return {tensor.size(0), tensor.numel() / tensor.size(0)};
}

double RateFactor(Muon::Adjustment adjustment, int64_t rows, int64_t columns) {
  if (adjustment == Muon::ORIGINAL) return std::sqrt(std::max(1.0, static_cast<double>(rows) / columns));
  return 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns)));
}

}  // namespace

at::Tensor Orthogonalize(const at::Tensor& matrices, int iterations) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;  // the quintic that Jordan chose
  at::Tensor x = matrices.div(at::linalg_vector_norm(matrices, 2, {-2, -1}, /*keepdim=*/true).clamp_min(1e-7));
  for (int i = 0; i < iterations; ++i) {
    const at::Tensor gram = at::bmm(x, x.mT());
    const at::Tensor polynomial = at::baddbmm(gram, gram, gram, /*beta=*/kB, /*alpha=*/kC);
    x = at::baddbmm(x, polynomial, x, /*beta=*/kA);
  }
  return x;
}

absl::StatusOr<std::unique_ptr<Optimizer>> MuonOptimizer::Create(const Muon& given, const OptimizerContext& context) {
  const Muon config = WithDefaults(given);
  FieldErrors errors;
  CheckBeta(errors, "momentum", config.momentum());
  CheckNotNegative(errors, "weight_decay", config.weight_decay());
  if (!Muon::Adjustment_IsValid(config.adjustment())) {
    errors.Add("adjustment", absl::StrCat("there is no value ", config.adjustment()));
  }
  if (config.iterations() < 1 || config.iterations() > 99) {
    errors.Add("iterations", absl::StrCat("must be from 1 to 99, found ", config.iterations()));
  }
  CheckNotNegative(errors, "adamw_learning_rate", config.adamw_learning_rate());
  CheckBeta(errors, "adamw_beta1", config.adamw_beta1());
  CheckBeta(errors, "adamw_beta2", config.adamw_beta2());
  CheckPositive(errors, "adamw_epsilon", config.adamw_epsilon());
  if (given.has_adamw_weight_decay()) CheckNotNegative(errors, "adamw_weight_decay", config.adamw_weight_decay());

  std::vector<TrainedParameter> matrices, others;
  std::vector<bool> matched(config.adamw_parameters_size());
  bool has_matrices = false;
  for (const TrainedParameter& parameter : context.parameters) {
    bool is_matrix = parameter.role == TrainedParameter::Role::kMatrix;
    has_matrices |= is_matrix;
    for (int i = 0; is_matrix && i < config.adamw_parameters_size(); ++i) {
      if (fnmatch(config.adamw_parameters(i).c_str(), parameter.name.c_str(), 0) != 0) continue;
      matched[i] = true;
      is_matrix = false;
    }
    (is_matrix ? matrices : others).push_back(parameter);
  }
  if (!context.parameters.empty() && !has_matrices) {
    errors.Add("",
               "is for models that say which of their modules are layers; in this one there is no matrix of a layer");
  } else if (!context.parameters.empty()) {
    for (int i = 0; i < config.adamw_parameters_size(); ++i) {
      if (matched[i]) continue;
      errors.Add(absl::StrCat("adamw_parameters[", i, "]"),
                 absl::StrCat("'", config.adamw_parameters(i),
                              "' matches no matrix of a layer that AdamW would not train anyway"));
    }
    if (matrices.empty()) errors.Add("adamw_parameters", "leave no matrix to Muon");
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Optimizer>(new MuonOptimizer(config, matrices, others));
}

MuonOptimizer::MuonOptimizer(const Muon& config, const std::vector<TrainedParameter>& matrices,
                             const std::vector<TrainedParameter>& others)
    : config_(config),
      matrices_(matrices, {{"momentum_buffer"}}),
      others_(others, {.beta1 = config.adamw_beta1(),
                       .beta2 = config.adamw_beta2(),
                       .epsilon = config.adamw_epsilon(),
                       .weight_decay = config.adamw_weight_decay()}) {}

void MuonOptimizer::Step(double learning_rate) {
  c10::NoGradGuard no_grad;
  for (const Slots::Group& group : matrices_.WithGradients()) {
    StepGroup(group, learning_rate * group.learning_rate_scale);
  }
  others_.Step(learning_rate * config_.adamw_learning_rate());
}

void MuonOptimizer::StepGroup(const Slots::Group& group, double learning_rate) const {
  const double weight_decay = config_.weight_decay() * group.weight_decay_scale;
  const std::vector<at::Tensor>& momenta = group.state[0];
  at::_foreach_lerp_(momenta, group.gradients, 1 - config_.momentum());
  if (weight_decay != 0) at::_foreach_mul_(group.parameters, 1 - learning_rate * weight_decay);

  // Matrices of one shape, lying or standing, go through the iterations together.
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> shapes;
  for (size_t i = 0; i < group.parameters.size(); ++i) {
    const auto [rows, columns] = MatrixShape(group.parameters[i]);
    shapes[std::minmax({rows, columns})].push_back(i);
  }
  const at::ScalarType type = group.parameters.front().is_cpu() ? at::kFloat : at::kBFloat16;
  for (const auto& [shape, members] : shapes) {
    const size_t most = std::max<int64_t>(1, kMostElements / (shape.first * shape.second));
    for (size_t begin = 0; begin < members.size(); begin += most) {
      const size_t end = std::min(members.size(), begin + most);
      std::vector<at::Tensor> lying;  // [r,c] with r ≤ c
      for (size_t i = begin; i < end; ++i) {
        const at::Tensor& momentum = momenta[members[i]];
        const at::Tensor update =
            (config_.nesterov() ? group.gradients[members[i]].lerp(momentum, config_.momentum()) : momentum)
                .flatten(1)
                .to(type);
        lying.push_back(update.size(0) > update.size(1) ? update.mT() : update);
      }
      const std::vector<at::Tensor> updates = Orthogonalize(at::stack(lying), config_.iterations()).unbind();
      for (size_t i = begin; i < end; ++i) {
        at::Tensor parameter = group.parameters[members[i]];
        const auto [rows, columns] = MatrixShape(parameter);
        const at::Tensor& update = updates[i - begin];
        parameter.add_((rows > columns ? update.mT() : update).reshape(parameter.sizes()),
                       -learning_rate * RateFactor(config_.adjustment(), rows, columns));
      }
    }
  }
}

Safetensors MuonOptimizer::State() const {
  Safetensors state;
  matrices_.AddState(state);
  others_.AddState(state);
  return state;
}

absl::Status MuonOptimizer::LoadState(Safetensors state) { return LoadOptimizerState(std::move(state), State()); }

namespace {
const Registration<Optimizer, Muon> kRegistration("Muon: orthogonal steps for the layers' matrices, AdamW for the rest",
                                                  "weight_decay: 0.05", &MuonOptimizer::Create);
}  // namespace
}  // namespace graticule
