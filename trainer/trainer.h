// The training loop.
#ifndef GRATICULE_TRAINER_TRAINER_H_
#define GRATICULE_TRAINER_TRAINER_H_

#include <string>

#include "absl/status/status.h"
#include "trainer/spec.h"

namespace graticule {

struct TrainOptions {
  // The run directory: experiment.textproto, metrics.csv, TensorBoard events, log.txt, checkpoints/.
  std::string output;
  // Go on with a run although its spec was changed since.
  bool allow_changed_spec = false;
  // How the user calls the program, for the hints at the end.
  std::string command = "graticule";
};

// Trains a checked experiment, or goes on with it from the newest whole checkpoint of its run directory.
// FailedPrecondition if the training ended well but an `expected` bound does not hold.
absl::Status Train(const Experiment& experiment, const TrainOptions& options);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_TRAINER_H_
