#include "trainer/step.h"

#include "ATen/ops/_foreach_mul.h"
#include "ATen/ops/_foreach_norm.h"
#include "ATen/ops/stack.h"
#include "c10/core/GradMode.h"

namespace graticule {
namespace {

// Scales the gradients to a global norm of at most `max_norm`, without a look at it by the host; returns the norm.
at::Tensor ClipByNorm(const std::vector<at::Tensor>& parameters, double max_norm) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients, 2)).norm();
  at::_foreach_mul_(gradients, norm.add(1e-6).reciprocal().mul(max_norm).clamp_max(1.0));
  return norm;
}

}  // namespace

TrainingStep::TrainingStep(const Trainer& trainer, const Normalizer& normalize, c10::Device device, Task& task,
                           Optimizer& optimizer, Ema* ema)
    : trainer_(trainer), normalize_(normalize), device_(device), task_(task), optimizer_(optimizer), ema_(ema) {
  for (const NamedParameter& parameter : task.Parameters()) {
    if (parameter.trainable) trained_.push_back(parameter.tensor);
  }
}

TaskOutput TrainingStep::Forward(const Batch& batch, int64_t step, int part, double progress) {
  SeedDraws({trainer_.seed(), kDrawsOfStep, static_cast<uint64_t>(step), static_cast<uint64_t>(part)});
  const Batch ready = normalize_(batch);
  const AutocastScope autocast(trainer_.precision(), device_);
  return task_.Train(ready, progress);
}

void TrainingStep::Backward(const at::Tensor& loss) {
  const int parts = trainer_.accumulation_steps();
  (parts > 1 ? loss.div(parts) : loss).backward();
}

at::Tensor TrainingStep::Update(double learning_rate) {
  at::Tensor norm;
  if (trainer_.clip_norm() > 0) norm = ClipByNorm(trained_, trainer_.clip_norm());
  optimizer_.Step(learning_rate);
  for (at::Tensor& parameter : trained_) parameter.mutable_grad() = at::Tensor();
  if (ema_ != nullptr) ema_->Update();
  return norm;
}

}  // namespace graticule
