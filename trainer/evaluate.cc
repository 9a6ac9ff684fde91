#include "trainer/evaluate.h"

#include <map>
#include <optional>
#include <string>

#include "c10/core/GradMode.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::map<std::string, double>> Evaluate(Task& task, Loader& loader, const Normalizer& normalize,
                                                       Trainer::Precision precision, c10::Device device) {
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
    }
  } catch (...) {
    status = CurrentExceptionToStatus("evaluation");
  }
  task.SetTraining(was_training);
  RETURN_IF_ERROR(status);
  return metrics.Means();
}

}  // namespace graticule
