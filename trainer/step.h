// One training step: what `train` repeats and `bench` measures.
#ifndef GRATICULE_TRAINER_STEP_H_
#define GRATICULE_TRAINER_STEP_H_

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "c10/core/Device.h"
#include "data/batch.h"
#include "tasks/task.h"
#include "trainer/device.h"
#include "trainer/distributed/gradient_reducer.h"
#include "trainer/ema.h"
#include "trainer/experiment.pb.h"
#include "trainer/loss_scaler.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/parts.h"
#include "trainer/teacher.h"

namespace graticule {

// What a step works on; all outlive it.
struct StepParts {
  const Normalizer& normalize;
  c10::Device device;
  Task& task;
  std::vector<TrainedParameter> parameters;  // those of the optimizer
  Optimizer& optimizer;
  // Null where there is none.
  Ema* ema = nullptr;
  LossScaler* loss_scaler = nullptr;
  const TeacherModel* teacher = nullptr;
  GradientReducer* reducer = nullptr;
  ProcessPlace place = {};
};

// Forward and Backward for each part of the step's batch (trainer.accumulation_steps of them), then Update. Exceptions
// of the task and of LibTorch pass through.
class TrainingStep {
 public:
  TrainingStep(const Trainer& trainer, StepParts parts);

  // `batch` as the loader hands it over; `step` and `part` are what the random draws depend on. Between a step's first
  // Forward and Update the task's buffers may be taken back to where they were.
  TaskOutput Forward(const Batch& batch, int64_t step, int part, double progress);
  // Adds the gradients of this part's share of the step's loss; after the last part's they are the means over all
  // processes. A loss that is not finite makes all of them so, in every process. The status is of the other processes.
  absl::Status Backward(const at::Tensor& loss, int part);

  struct Outcome {
    // Global norm of the gradients before they were clipped; where it is not finite, weights, moving average and
    // buffers are as they were before the step.
    double gradient_norm = 0;
    bool finite() const;
  };
  // Clips, steps, forgets the gradients, updates the moving average. `norms`, where given: of each parameter's gradient
  // before it was clipped, [parameters that have one].
  Outcome Update(double learning_rate, int64_t step, at::Tensor* norms = nullptr);

  // What the generators are seeded with before a part, and all that its random draws depend on.
  uint64_t Seed(int64_t step, int part) const;

 private:
  void SaveBuffers();
  void RestoreBuffers();
  void ForgetGradients();

  const Trainer& trainer_;
  StepParts parts_;
  std::vector<at::Tensor> buffers_, buffers_before_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_STEP_H_
