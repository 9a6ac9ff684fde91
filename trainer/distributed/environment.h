// How this process was started among others: what torchrun, SLURM, Open MPI, PMI and Graticule's own launcher say in
// the environment, read as timm reads it (timm.utils.distributed).
#ifndef GRATICULE_TRAINER_DISTRIBUTED_ENVIRONMENT_H_
#define GRATICULE_TRAINER_DISTRIBUTED_ENVIRONMENT_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace graticule {

struct LaunchEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  // Ranks on this machine, where the launcher says so, else 0.
  int local_world_size = 0;
  // Where the ranks meet; of no meaning in a world of one.
  std::string master_address;
  int master_port = 0;
  // torchrun's agent serves the store: rank 0 is a client like the others.
  bool use_agent_store = false;
  // torchrun starts the ranks anew after a failure; the attempts share its store. "0" at first.
  std::string restart_count = "0";
  // A listening socket for the store that this process has inherited: Graticule's launcher gives it to rank 0, so that
  // nobody else takes the port meanwhile.
  std::optional<int> listen_fd;
  // Graticule's launcher reads from it which rank failed by itself, and not because of another one: its number in a
  // line.
  std::optional<int> failure_fd;
  // Who started the ranks, for messages: "torchrun", "SLURM", "Open MPI", "PMI", "graticule"; "" for a process that is
  // alone.
  std::string launcher;
};

// The value of a variable, nothing where it is not set.
using GetVariable = std::function<std::optional<std::string>(const char* name)>;

// A world of one where no launcher says otherwise, as in an interactive allocation of SLURM. InvalidArgument, naming
// the variable, where a value is no number, a rank is not below its world's size, or one of them is missing.
absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment(const GetVariable& get);
// Of this process.
absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment();

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_ENVIRONMENT_H_
