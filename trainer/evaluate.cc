#include "trainer/evaluate.h"

#include <functional>
#include <optional>

#include "c10/core/GradMode.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<Metrics> Evaluate(Task& task, Loader& loader, const Normalizer& normalize, Trainer::Precision precision,
                                 c10::Device device, const std::function<bool(const Batch&)>& on_batch) {
  const bool was_training = task.training();
  task.SetTraining(false);
  c10::NoGradGuard no_grad;
  Metrics metrics;
  absl::Status status;
  try {
    const AutocastScope autocast(precision, device);
    loader.Start(0);
    while (true) {
      const absl::StatusOr<std::optional<Batch>> batch = loader.Next();
      if (!batch.ok()) status = batch.status();
      if (!batch.ok() || !batch->has_value()) break;
      task.Evaluate(normalize(**batch), metrics);
      if (on_batch && !on_batch(**batch)) break;
    }
  } catch (...) {
    status = CurrentExceptionToStatus("evaluation");
  }
  task.SetTraining(was_training);
  RETURN_IF_ERROR(status);
  return metrics;
}

}  // namespace graticule
