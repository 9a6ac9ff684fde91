#include "trainer/step.h"

#include <cmath>
#include <optional>
#include <utility>

#include "ATen/Context.h"
#include "ATen/ops/_foreach_copy.h"
#include "ATen/ops/_foreach_norm.h"
#include "ATen/ops/stack.h"
#include "c10/core/GradMode.h"
#include "data/random.h"
#include "nn/activation_checkpointing.h"
#include "trainer/optimizers/clip.h"
#include "trainer/profile.h"

namespace graticule {

bool TrainingStep::Outcome::finite() const { return std::isfinite(gradient_norm); }

TrainingStep::TrainingStep(const Trainer& trainer, StepParts parts) : trainer_(trainer), parts_(std::move(parts)) {
  for (const NamedBuffer& buffer : parts_.task.Buffers()) {
    buffers_.push_back(buffer.tensor);
    buffers_before_.push_back(buffer.tensor.clone());
  }
}

uint64_t TrainingStep::Seed(int64_t step, int part) const {
  // Parts and processes are counted together: two processes draw as two parts of one process do.
  const int64_t place = int64_t{part} * parts_.place.world_size + parts_.place.rank;
  return HashKey({trainer_.seed(), kDrawsOfStep, static_cast<uint64_t>(step), static_cast<uint64_t>(place)});
}

TaskOutput TrainingStep::Forward(const Batch& batch, int64_t step, int part, double progress) {
  const ProfiledRange range("forward");
  if (part == 0) SaveBuffers();
  at::manual_seed(Seed(step, part));
  Batch ready = parts_.normalize(batch);
  const AutocastScope autocast(trainer_.precision(), parts_.device);
  if (parts_.teacher != nullptr) ready.teacher_logits = parts_.teacher->Logits(ready.images);
  std::optional<ActivationCheckpointingScope> checkpointing;
  if (trainer_.activation_checkpointing()) checkpointing.emplace();
  return parts_.task.Train(ready, progress);
}

absl::Status TrainingStep::Backward(const at::Tensor& loss, int part) {
  const ProfiledRange range("backward");
  const int parts = AccumulationSteps(trainer_);
  at::Tensor share = parts > 1 ? loss.div(parts) : loss;
  // By one where the loss is finite, else by no number: the gradients of an infinite loss may be finite themselves.
  share = share.mul(loss.detach().mul(0).add(1));
  if (parts_.loss_scaler != nullptr) share = parts_.loss_scaler->Scale(share);
  if (parts_.reducer != nullptr) return parts_.reducer->Backward(share, /*synchronise=*/part == parts - 1);
  share.backward();
  return absl::OkStatus();
}

TrainingStep::Outcome TrainingStep::Update(double learning_rate, int64_t step, at::Tensor* norms) {
  const ProfiledRange range("optimizer");
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const TrainedParameter& parameter : parts_.parameters) {
    if (parameter.tensor.grad().defined()) gradients.push_back(parameter.tensor.grad());
  }
  if (parts_.loss_scaler != nullptr) parts_.loss_scaler->Unscale(gradients);
  if (norms != nullptr && !gradients.empty()) *norms = at::stack(at::_foreach_norm(gradients, 2));
  const at::Tensor norm = ClipGradients(trainer_, parts_.parameters);
  const Outcome outcome{.gradient_norm = norm.defined() ? norm.item<double>() : 0};
  if (outcome.finite()) {
    parts_.optimizer.Step(learning_rate);
  } else {
    RestoreBuffers();
  }
  ForgetGradients();
  if (parts_.loss_scaler != nullptr) parts_.loss_scaler->Update(outcome.finite());
  if (parts_.ema != nullptr && outcome.finite()) parts_.ema->Update(step);
  return outcome;
}

void TrainingStep::SaveBuffers() {
  if (!buffers_.empty()) at::_foreach_copy_(buffers_before_, buffers_);
}

void TrainingStep::RestoreBuffers() {
  if (!buffers_.empty()) at::_foreach_copy_(buffers_, buffers_before_);
}

void TrainingStep::ForgetGradients() {
  for (const TrainedParameter& parameter : parts_.parameters) parameter.tensor.mutable_grad() = at::Tensor();
}

}  // namespace graticule
