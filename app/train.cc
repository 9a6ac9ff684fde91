#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "app/command.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/distributed/environment.h"
#include "trainer/distributed/launcher.h"
#include "trainer/profile.h"
#include "trainer/trainer.h"

namespace graticule {
namespace {

struct Arguments {
  SpecArguments spec;
  TrainOptions options;
  int processes = 1;
  std::string profile;
};

// Of each pass every process has the same number of images.
absl::Status CheckBatch(const Trainer& trainer, int world_size) {
  const int parts = AccumulationSteps(trainer) * world_size;
  if (trainer.batch_size() % parts == 0) return absl::OkStatus();
  return UsageError(absl::StrCat("trainer.batch_size: ", world_size, " processes and ", AccumulationSteps(trainer),
                                 " accumulation steps do not divide ", trainer.batch_size(), "; nothing was started"));
}

// The run directory.
std::string Output(const Arguments& arguments, const Experiment& experiment) {
  if (!arguments.options.output.empty()) return arguments.options.output;
  if (arguments.spec.IsRun()) return std::string(absl::StripSuffix(arguments.spec.path, "/"));
  return "runs/" + experiment.name();
}

absl::StatusOr<Spec> LoadSpec(const Arguments& arguments, DataParts* data = nullptr) {
  return arguments.spec.Load(
      data, [&](const Experiment& experiment) { return HasCheckpoint(Output(arguments, experiment)).value_or(false); });
}

// What this process was called with, without the program's name.
std::vector<std::string> OwnArguments() {
  std::ifstream file("/proc/self/cmdline");
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(file, argument, '\0');) arguments.push_back(argument);
  arguments.erase(arguments.begin());
  return arguments;
}

// This command once more, as so many processes that train together.
absl::Status StartRanks(const Arguments& arguments, const LaunchEnvironment& launch) {
  if (launch.world_size > 1) {
    return UsageError(absl::StrCat("--processes was given to a process that ", launch.launcher,
                                   " has started as one of ", launch.world_size));
  }
  // Mistakes are said once, and by a process of its own: what it opens and starts is gone before the ranks are there.
  const pid_t check = fork();
  if (check < 0) return absl::ErrnoToStatus(errno, "cannot start a process");
  if (check == 0) {
    ASSIGN_OR_RETURN(const Spec spec, LoadSpec(arguments));
    return CheckBatch(spec.experiment().trainer(), arguments.processes);
  }
  int status = 0;
  waitpid(check, &status, 0);
  if (status != 0) std::exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return Launch({.processes = arguments.processes, .command = RankCommand(OwnArguments()), .grace_seconds = 20},
                /*exit_code=*/nullptr);
}

absl::Status RunTrain(const Arguments& arguments) {
  // A training outlives whoever reads what it prints; log.txt has it all.
  signal(SIGPIPE, SIG_IGN);
  TrainOptions options = arguments.options;
  if (!arguments.profile.empty()) {
    auto profile = ParseProfiledSteps(arguments.profile);
    if (!profile.ok()) return UsageError(absl::StrCat("--profile: ", profile.status().message()));
    options.profile = *profile;
  }
  ASSIGN_OR_RETURN(options.launch, ReadLaunchEnvironment());
  if (arguments.processes > 1) return StartRanks(arguments, options.launch);

  DataParts data;
  ASSIGN_OR_RETURN(const Spec spec, LoadSpec(arguments, &data));
  RETURN_IF_ERROR(CheckBatch(spec.experiment().trainer(), options.launch.world_size));
  options.output = Output(arguments, spec.experiment());
  // Set by the script that builds and starts the program.
  if (const char* command = std::getenv("GRATICULE_COMMAND")) options.command = command;
  return Train(spec.experiment(), std::move(data), options);
}

}  // namespace

void AddTrain(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("train", "Train an experiment, or go on with it where it was left");
  arguments->spec.AddTo(*command);
  command
      ->add_option("--output", arguments->options.output,
                   "Run directory [SPEC, where that is one, else runs/NAME, NAME being the spec's]")
      ->type_name("DIR");
  command->add_flag("--allow-changed-spec", arguments->options.allow_changed_spec,
                    "Go on with a run although what its spec says of training was changed since, or the spec is lost");
  command
      ->add_option(
          "--processes", arguments->processes,
          "Start so many processes on this machine that train together: on CUDA one a GPU. torchrun, SLURM and "
          "MPI are understood without it [1]")
      ->check(kPositive);
  command->add_option("--profile", arguments->profile, "Write a Chrome trace of the steps A to B, counted from 0")
      ->type_name("A:B");
  command->callback([arguments, &action] { action = [arguments] { return RunTrain(*arguments); }; });
}

}  // namespace graticule
