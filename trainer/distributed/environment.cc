#include "trainer/distributed/environment.h"

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// torch.distributed's; jobs on the same machines get ports of their own from here on.
constexpr int kFirstPort = 29500;
constexpr int kPorts = 1000;

// Where a launcher says who a process is. Empty names: it does not say.
struct Names {
  const char* launcher;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;
};

constexpr Names kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Names kOpenMpi = {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                            "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kPmi = {"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
constexpr Names kSlurm = {"SLURM", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", ""};
constexpr Names kSlurmStep = {"SLURM", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""};

absl::StatusOr<int64_t> ParseNumber(const std::string& name, const std::string& value, int64_t low, int64_t high) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < low || number > high) {
    const std::string limits =
        high == std::numeric_limits<int>::max() ? absl::StrCat("of at least ", low) : absl::StrCat(low, " to ", high);
    return absl::InvalidArgumentError(
        absl::StrCat("environment variable ", name, " must be a number ", limits, ", found '", value, "'"));
  }
  return number;
}

absl::StatusOr<std::optional<int>> Number(const GetVariable& get, const char* name, int low,
                                          int high = std::numeric_limits<int>::max()) {
  if (*name == '\0') return std::nullopt;
  const std::optional<std::string> value = get(name);
  if (!value.has_value()) return std::nullopt;
  ASSIGN_OR_RETURN(const int64_t number, ParseNumber(name, *value, low, high));
  return static_cast<int>(number);
}

absl::Status Missing(const Names& names, const char* name) {
  return absl::InvalidArgumentError(
      absl::StrCat("environment variable ", name, " is not set, but others that ", names.launcher, " sets are"));
}

// SLURM's interactive shells are one process of an allocation of many: `srun --pty bash`, `salloc` with an interactive
// step. What is started from a shell is no task of a step.
bool IsInteractiveSlurm(const GetVariable& get) {
  const std::string job = get("SLURM_JOB_NAME").value_or("");
  return !get("SLURM_PROCID").has_value() || job == "bash" || job == "interactive";
}

// "4(x2),1" at `node`: 4, 4, 1. 0 where it is not of this form.
int TasksOfNode(const std::string& list, int node) {
  for (const std::string& item : std::vector<std::string>(absl::StrSplit(list, ','))) {
    const std::vector<std::string> parts = absl::StrSplit(item, absl::ByAnyChar("(x)"), absl::SkipEmpty());
    int tasks = 0;
    int times = 1;
    if (parts.empty() || !absl::SimpleAtoi(parts[0], &tasks)) return 0;
    if (parts.size() > 1 && !absl::SimpleAtoi(parts[1], &times)) return 0;
    if (node < times) return tasks;
    node -= times;
  }
  return 0;
}

// The first host of SLURM's list: "node[07-09,12],login" is node07, "rack[1-2]n[3,5]" rack1n3. Empty where it is of
// another form.
std::string FirstHost(const std::string& list) {
  std::string host;
  for (size_t i = 0; i < list.size() && list[i] != ','; ++i) {
    if (list[i] != '[') {
      host += list[i];
      continue;
    }
    const size_t end = list.find(']', i);
    if (end == std::string::npos) return "";
    const std::string ranges = list.substr(i + 1, end - i - 1);
    host += ranges.substr(0, ranges.find_first_of("-,"));
    i = end;
  }
  return host;
}

absl::Status ReadMaster(const GetVariable& get, const Names& names, LaunchEnvironment& environment) {
  const std::string slurm_hosts =
      get("SLURM_STEP_NODELIST").value_or(get("SLURM_NODELIST").value_or(get("SLURM_JOB_NODELIST").value_or("")));
  environment.master_address = get("MASTER_ADDR").value_or("");
  // torchrun and those who do as it does say both.
  const bool derived = names.launcher != kTorchrun.launcher;
  if (environment.master_address.empty() && derived) {
    environment.master_address =
        environment.local_world_size == environment.world_size ? "127.0.0.1" : FirstHost(slurm_hosts);
  }
  if (environment.master_address.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment variable MASTER_ADDR is not set: ", environment.world_size, " ranks of ",
                     names.launcher, " need the address of rank 0's machine to meet"));
  }
  ASSIGN_OR_RETURN(const std::optional<int> port, Number(get, "MASTER_PORT", 1, 65535));
  if (port.has_value()) {
    environment.master_port = *port;
    return absl::OkStatus();
  }
  if (!derived) {
    return absl::InvalidArgumentError("environment variable MASTER_PORT is not set, but MASTER_ADDR is");
  }
  ASSIGN_OR_RETURN(const std::optional<int> job, Number(get, "SLURM_JOB_ID", 0));
  // Steps of one job may run side by side. The batch script's and the interactive step have numbers above int's range.
  int64_t step = 0;
  if (const auto value = get("SLURM_STEP_ID"); value.has_value()) {
    ASSIGN_OR_RETURN(step, ParseNumber("SLURM_STEP_ID", *value, 0, std::numeric_limits<uint32_t>::max()));
  }
  environment.master_port = kFirstPort + static_cast<int>((job.value_or(0) + step) % kPorts);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment(const GetVariable& get) {
  Names names = {};
  if (get("WORLD_SIZE").has_value() || get("RANK").has_value()) {
    names = kTorchrun;
  } else if (get("OMPI_COMM_WORLD_SIZE").has_value() || get("OMPI_COMM_WORLD_RANK").has_value()) {
    names = kOpenMpi;
  } else if (get("PMI_SIZE").has_value() || get("PMI_RANK").has_value()) {
    // Before SLURM: MPI's own launcher inherits the variables of the batch script that it is called in. srun with its
    // PMI plugin sets both, and says who is where on a machine in its own alone.
    const bool is_srun = !get(kPmi.local_rank).has_value() && get(kPmi.rank) == get(kSlurm.rank);
    names = !is_srun ? kPmi : get(kSlurmStep.world_size).has_value() ? kSlurmStep : kSlurm;
  } else if (get("SLURM_NTASKS").has_value() && !IsInteractiveSlurm(get)) {
    names = get(kSlurmStep.world_size).has_value() ? kSlurmStep : kSlurm;
  } else {
    return LaunchEnvironment();
  }

  LaunchEnvironment environment;
  ASSIGN_OR_RETURN(const std::optional<int> world_size, Number(get, names.world_size, 1));
  if (!world_size.has_value()) return Missing(names, names.world_size);
  environment.world_size = *world_size;
  ASSIGN_OR_RETURN(const std::optional<int> rank, Number(get, names.rank, 0));
  if (*world_size == 1 && rank.value_or(0) == 0) return LaunchEnvironment();
  if (!rank.has_value()) return Missing(names, names.rank);
  environment.rank = *rank;
  if (*rank >= *world_size) {
    return absl::InvalidArgumentError(absl::StrCat("environment variable ", names.rank, " must be below ",
                                                   names.world_size, ", which is ", *world_size, ", found ", *rank));
  }
  environment.launcher = names.launcher;
  ASSIGN_OR_RETURN(environment.failure_fd, Number(get, "GRATICULE_FAILURE_FD", 0));
  if (environment.failure_fd.has_value()) environment.launcher = "graticule";

  ASSIGN_OR_RETURN(const std::optional<int> local_rank, Number(get, names.local_rank, 0));
  environment.local_rank = local_rank.value_or(0);
  ASSIGN_OR_RETURN(const std::optional<int> local_world_size, Number(get, names.local_world_size, 1, *world_size));
  environment.local_world_size = local_world_size.value_or(0);
  if (names.launcher == kSlurm.launcher) {
    ASSIGN_OR_RETURN(const std::optional<int> node, Number(get, "SLURM_NODEID", 0));
    const std::string tasks = get("SLURM_STEP_TASKS_PER_NODE").value_or(get("SLURM_TASKS_PER_NODE").value_or(""));
    environment.local_world_size = TasksOfNode(tasks, node.value_or(0));
  }
  if (local_world_size.has_value() && environment.local_rank >= *local_world_size) {
    return absl::InvalidArgumentError(absl::StrCat("environment variable ", names.local_rank, " must be below ",
                                                   names.local_world_size, ", which is ", *local_world_size, ", found ",
                                                   environment.local_rank));
  }

  RETURN_IF_ERROR(ReadMaster(get, names, environment));
  environment.use_agent_store = get("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  environment.restart_count = get("TORCHELASTIC_RESTART_COUNT").value_or("0");
  ASSIGN_OR_RETURN(environment.listen_fd, Number(get, "GRATICULE_STORE_FD", 0));
  return environment;
}

absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment() {
  return ReadLaunchEnvironment([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    return value;
  });
}

}  // namespace graticule
