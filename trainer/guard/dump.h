// Dumps: all that a bad step was computed from, for `graticule replay`.
#ifndef GRATICULE_TRAINER_GUARD_DUMP_H_
#define GRATICULE_TRAINER_GUARD_DUMP_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/batch.h"
#include "nn/safetensors.h"
#include "trainer/guard/dump.pb.h"

namespace graticule {

// The contents of a folder, besides report.txt, which says for a reader what stands in them.
struct Dump {
  DumpState state;             // dump.textproto
  std::vector<Batch> batches;  // batch.safetensors: PART.images, PART.labels, …, as the loader handed them over
  Safetensors model;           // model.safetensors: weights and buffers before the step
  Safetensors objectives;      // objectives.safetensors; no file where empty
};

// Writes dumps/step-000123-rank0 under `run_directory`, under a temporary name that is changed when all is on disk, in
// the place of an older one of the same step. Of each rank the first dump and the two newest are kept. Returns the
// folder. An error leaves no trace of the new one.
absl::StatusOr<std::string> WriteDump(const std::string& run_directory, const Dump& dump);

// NotFound where the folder is no dump; DataLoss names what is missing or damaged.
absl::StatusOr<Dump> ReadDump(const std::string& folder);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_GUARD_DUMP_H_
