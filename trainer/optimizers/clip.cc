#include "trainer/optimizers/clip.h"

#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "ATen/ops/_foreach_clamp_max.h"
#include "ATen/ops/_foreach_clamp_min.h"
#include "ATen/ops/_foreach_div.h"
#include "ATen/ops/_foreach_mul.h"
#include "ATen/ops/_foreach_norm.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/stack.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"

namespace graticule {
namespace {

// ‖w_u‖ of each unit, so that it can be multiplied with the whole: 0-d for vectors, [O,1,…] else.
std::vector<at::Tensor> UnitNorms(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> norms;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.dim() <= 1) {
      norms.push_back(at::linalg_vector_norm(tensor));
    } else {
      std::vector<int64_t> axes(tensor.dim() - 1);
      std::iota(axes.begin(), axes.end(), 1);
      norms.push_back(at::linalg_vector_norm(tensor, 2, axes, /*keepdim=*/true));
    }
  }
  return norms;
}

void ClipAdaptively(const std::vector<TrainedParameter>& parameters, double share) {
  constexpr double kLeastNorm = 1e-3;  // so that weights that are zero can leave it
  std::vector<at::Tensor> weights, gradients;
  for (const TrainedParameter& parameter : parameters) {
    if (!parameter.tensor.grad().defined() || parameter.role == TrainedParameter::Role::kClassifier) continue;
    weights.push_back(parameter.tensor);
    gradients.push_back(parameter.tensor.grad());
  }
  if (gradients.empty()) return;
  const std::vector<at::Tensor> factors = UnitNorms(weights);
  at::_foreach_clamp_min_(factors, kLeastNorm);
  at::_foreach_mul_(factors, share);
  at::_foreach_div_(factors, UnitNorms(gradients));
  at::_foreach_clamp_max_(factors, 1);
  at::_foreach_mul_(gradients, factors);
}

}  // namespace

at::Tensor GlobalNorm(const std::vector<at::Tensor>& tensors) {
  if (tensors.empty()) return at::Tensor();
  std::vector<at::Tensor> norms = at::_foreach_norm(tensors, 2);
  for (at::Tensor& norm : norms) norm = norm.to(norms.front().device(), at::kFloat);
  return at::linalg_vector_norm(at::stack(norms));
}

at::Tensor ClipGradients(const Trainer& trainer, const std::vector<TrainedParameter>& parameters) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const TrainedParameter& parameter : parameters) {
    if (parameter.tensor.grad().defined()) gradients.push_back(parameter.tensor.grad());
  }
  const at::Tensor norm = GlobalNorm(gradients);
  if (gradients.empty()) return norm;
  if (trainer.clip_norm() > 0) {
    at::_foreach_mul_(gradients, norm.add(1e-6).reciprocal().mul(trainer.clip_norm()).clamp_max(1.0));
  } else if (trainer.clip_value() > 0) {
    at::_foreach_clamp_min_(gradients, -trainer.clip_value());
    at::_foreach_clamp_max_(gradients, trainer.clip_value());
  } else if (trainer.clip_adaptive() > 0) {
    ClipAdaptively(parameters, trainer.clip_adaptive());
  }
  return norm;
}

void CheckClipping(const Trainer& trainer, FieldErrors& errors) {
  std::string chosen;
  for (const auto& [field, value] : {std::pair<const char*, double>("clip_norm", trainer.clip_norm()),
                                     {"clip_value", trainer.clip_value()},
                                     {"clip_adaptive", trainer.clip_adaptive()}}) {
    const std::string path = absl::StrCat("trainer.", field);
    if (!(value >= 0 && std::isfinite(value))) {
      errors.Add(path, absl::StrCat("must not be negative, found ", value));
    } else if (value > 0 && !chosen.empty()) {
      errors.Add(path, absl::StrCat("can't be given with ", chosen, ": gradients are clipped in one way"));
    } else if (value > 0) {
      chosen = field;
    }
  }
}

}  // namespace graticule
