// Starts the ranks of a training on this machine: `--processes=N`.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_LAUNCHER_H_
#define GRATICULE_TRAINER_DISTRIBUTED_LAUNCHER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace graticule {

struct LaunchOptions {
  int processes = 1;
  // Program and arguments of each rank; a program without a slash is looked up in PATH.
  std::vector<std::string> command;
  // Set in each rank's environment besides RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT,
  // for instance "OMP_NUM_THREADS=1".
  std::vector<std::string> environment;
  // How long the ranks have after SIGTERM before they are killed.
  double grace_seconds = 10;
};

// Waits until all have ended. Rank 0 has this process's stdin, stdout and stderr; what the others write to stdout and
// stderr comes out on stderr, each line after "[rank 1] ". SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 go on to every
// rank, but for those that a terminal sends to them all by itself. Where one fails the others get SIGTERM, and SIGKILL
// after the grace. No rank outlives this process, and none is left a zombie.
//
// OK where all ranks exit with 0; else Aborted with the rank that failed by itself, the first one where none says so
// (Ranks::ReportFailure), its exit code or signal, and the last
// lines that it wrote (rank 0's are on the terminal). `exit_code`, where it is not null: of that rank, 128 + its number
// for a signal.
//
// Called before any thread is started: it sets the process's signal mask and the handling of SIGCHLD while it lasts.
absl::Status Launch(const LaunchOptions& options, int* exit_code);

// The command of this process as a rank's: /proc/self/exe and `arguments` (without the program's name), without
// `--processes=N` or `--processes N`.
std::vector<std::string> RankCommand(const std::vector<std::string>& arguments);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_LAUNCHER_H_
