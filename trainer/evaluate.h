#ifndef GRATICULE_TRAINER_EVALUATE_H_
#define GRATICULE_TRAINER_EVALUATE_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "data/loader/loader.h"
#include "tasks/task.h"
#include "trainer/device.h"
#include "trainer/experiment.pb.h"

namespace graticule {

// Runs every batch of the loader through the task in evaluation mode and returns the means of its metrics ("top1", …).
// The task is in training mode afterwards if it was before.
absl::StatusOr<std::map<std::string, double>> Evaluate(Task& task, Loader& loader, const Normalizer& normalize,
                                                       Trainer::Precision precision, c10::Device device);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_EVALUATE_H_
