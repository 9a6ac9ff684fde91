#ifndef GRATICULE_TRAINER_EVALUATE_H_
#define GRATICULE_TRAINER_EVALUATE_H_

#include <functional>

#include "absl/status/statusor.h"
#include "data/batch.h"
#include "data/loader/loader.h"
#include "nn/metrics.h"
#include "tasks/task.h"
#include "trainer/device.h"
#include "trainer/experiment.pb.h"

namespace graticule {

// Runs every batch of the loader through the task in evaluation mode and returns its metrics ("top1", …); `on_batch` is
// shown each as the loader made it, and ends it early by false. The task is in training mode afterwards if it was
// before.
absl::StatusOr<Metrics> Evaluate(Task& task, Loader& loader, const Normalizer& normalize, Trainer::Precision precision,
                                 c10::Device device, const std::function<bool(const Batch&)>& on_batch = nullptr);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_EVALUATE_H_
