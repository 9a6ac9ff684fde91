// The training loop.
#ifndef GRATICULE_TRAINER_TRAINER_H_
#define GRATICULE_TRAINER_TRAINER_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "trainer/distributed/environment.h"
#include "trainer/experiment.pb.h"
#include "trainer/parts.h"
#include "trainer/profile.h"

namespace graticule {

struct TrainOptions {
  // The run directory: experiment.textproto, metrics.csv, TensorBoard events, log.txt, run.json, checkpoints/.
  std::string output;
  // Go on with a run although its spec was changed since.
  bool allow_changed_spec = false;
  // How the user calls the program, for the hints at the end.
  std::string command = "graticule";
  // Which process of which training this is; by itself: the only one.
  LaunchEnvironment launch;
  // Steps of which a trace is written.
  std::optional<ProfiledSteps> profile;
};

// Trains a checked experiment on its data, or goes on with it from the newest whole checkpoint of its run directory.
// OK also where a signal asked it to stop and it saved what it had. FailedPrecondition if the training ended well but
// an `expected` bound does not hold.
absl::Status Train(const Experiment& experiment, DataParts data, const TrainOptions& options);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_TRAINER_H_
