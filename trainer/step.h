// One training step: what `train` repeats and `bench` measures.
#ifndef GRATICULE_TRAINER_STEP_H_
#define GRATICULE_TRAINER_STEP_H_

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "c10/core/Device.h"
#include "data/batch.h"
#include "tasks/task.h"
#include "trainer/device.h"
#include "trainer/ema.h"
#include "trainer/experiment.pb.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

// Forward and Backward for each part of the step's batch (trainer.accumulation_steps of them), then Update. Exceptions
// of the task and of LibTorch pass through.
class TrainingStep {
 public:
  // All outlive it; `ema` may be null.
  TrainingStep(const Trainer& trainer, const Normalizer& normalize, c10::Device device, Task& task,
               Optimizer& optimizer, Ema* ema);

  // `batch` as the loader hands it over; `step` and `part` are what the random draws depend on.
  TaskOutput Forward(const Batch& batch, int64_t step, int part, double progress);
  // Adds the gradients of this part's share of the step's loss.
  void Backward(const at::Tensor& loss);
  // Clips, steps, forgets the gradients, updates the moving average. Returns the global norm of the gradients before
  // they were clipped (0-d), undefined where they aren't.
  at::Tensor Update(double learning_rate);

 private:
  const Trainer& trainer_;
  const Normalizer& normalize_;
  c10::Device device_;
  Task& task_;
  Optimizer& optimizer_;
  Ema* ema_;
  std::vector<at::Tensor> trained_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_STEP_H_
