// How a run went, for programs to read.
#ifndef GRATICULE_TRAINER_RUN_SUMMARY_H_
#define GRATICULE_TRAINER_RUN_SUMMARY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace graticule {

struct RunSummary {
  std::string name;         // of the experiment
  std::string exit_reason;  // ExitReason()

  int64_t step = 0, total_steps = 0;  // optimizer steps done, and of the whole training
  int64_t resumed_at = 0;             // the step where this process began
  double epoch = 0;                   // epochs done, fractional
  int64_t images_seen = 0;            // over all ranks and all processes that led here
  int64_t skipped_steps = 0;

  struct Best {
    std::string metric;  // "val/top1"
    double value = 0;
    int64_t step = 0;
  };
  std::optional<Best> best;
  std::map<std::string, double> last;  // the last value of every metric

  double start_time = 0, end_time = 0;  // of this process, in seconds since 1970
  double run_seconds = 0;               // wall time of all processes that led here

  std::string device;       // "cpu", "cuda:0"
  int threads = 0;          // of the CPU's kernels
  int world_size = 1;       // ranks
  int64_t peak_memory = 0;  // bytes, see PeakMemory()
};

// "completed", "stopped by SIGTERM" (`signal`: the one that stopped it, or 0), "error: …".
std::string ExitReason(const absl::Status& status, int signal);

// Writes RUN_DIRECTORY/run.json, whole or not at all, with the versions of Graticule and LibTorch, the host's name and,
// where GRATICULE_REVISION gives it (as ./graticule does), the source's revision in Git. Numbers that are infinite or
// no numbers become null.
absl::Status WriteRunSummary(const RunSummary& summary, const std::string& run_directory);

// Whether its run.json says of a run that it was completed.
bool IsCompleted(const std::string& run_directory);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_RUN_SUMMARY_H_
