// Checkpoints: folders `step-000123/` that are either whole or not there.
#ifndef GRATICULE_TRAINER_CHECKPOINT_CHECKPOINT_H_
#define GRATICULE_TRAINER_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/checkpoint/state.pb.h"

namespace graticule {

// In the metadata of model.safetensors: the class names, one a line.
inline constexpr char kClassNamesKey[] = "class_names";

// The contents of a folder.
struct Checkpoint {
  TrainState state;        // state.textproto
  Safetensors model;       // model.safetensors: the exported model, timm's names
  Safetensors objectives;  // objectives.safetensors: NAME.parameter; no file where empty
  Safetensors ema;         // ema.safetensors, with the model's metadata; no file where empty
  Safetensors optimizer;   // optimizer.safetensors; no file where empty
};

// Writes checkpoints/step-000123 under `run_directory`: under a temporary name, every file and folder fsynced, with a
// manifest of sizes and SHA-256 sums, then renamed; `checkpoints/last` is a link moved afterwards. An error leaves no
// trace of the new one and does no harm to an older one.
absl::Status SaveCheckpoint(const std::string& run_directory, const Checkpoint& checkpoint);

// The folder of a step, checkpoints/step-000123 under `run_directory`, whether it is there or not.
std::string CheckpointFolder(const std::string& run_directory, int64_t step);

// Whether a run has a step folder, whole or not: it has begun.
absl::StatusOr<bool> HasCheckpoint(const std::string& run_directory);

// Reads a step folder and verifies its manifest, without a change to anything: so each rank loads the one that rank 0
// found. DataLoss names the file that is missing, cut or changed; other errors
// are those of reading.
absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& folder);

// The newest whole checkpoint of a run: a damaged one is renamed to step-000123.damaged, `report` is told why, the one
// before it is tried, and `last` points to what was found. Nothing if there was none; DataLoss if all are damaged, or
// were when an earlier call set them aside.
absl::StatusOr<std::optional<Checkpoint>> LoadNewestCheckpoint(const std::string& run_directory,
                                                               const std::function<void(const std::string&)>& report);

// The step folders that stay, besides the one that `last` points to.
struct Retention {
  int keep = 2;                 // the newest so many, at least one
  int64_t every = 0;            // those of steps that are a multiple of it; 0: none
  std::optional<int64_t> best;  // that of this step
};

// Points the link `checkpoints/best` to the best one, or removes it where there is none. Removes the other step
// folders, and what half-written saves left behind. Tries all of them, whatever fails; the error is the first.
absl::Status PruneCheckpoints(const std::string& run_directory, const Retention& retention);

// In front of the objectives' weights where they are among those of a model: objectives.apl.fc1.weight.
inline constexpr char kObjectivesPrefix[] = "objectives.";

// Weights for a task: of a run directory (its last checkpoint), a step folder, a folder that has a model.safetensors,
// or a file (nn/weights_file.h). EMA weights where the folder or file has some and `ema` says so; the objectives' too,
// where a run or step has them. What lies in a step folder is verified by its manifest.
absl::StatusOr<Safetensors> ReadWeights(const std::string& path, bool ema);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_CHECKPOINT_CHECKPOINT_H_
