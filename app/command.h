// The subcommands of the program: one file each, each adding itself to the command line.
#ifndef GRATICULE_APP_COMMAND_H_
#define GRATICULE_APP_COMMAND_H_

#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "tasks/task.h"
#include "trainer/parts.h"
#include "trainer/spec.h"

namespace graticule {

// What the chosen subcommand does, run once the command line is read. A status becomes the last line on standard error
// and the exit code: 2 for a UsageError, 1 for every other error.
using Action = std::function<absl::Status()>;

// A wrong spec or command line: nothing was started.
absl::Status UsageError(std::string_view message);
bool IsUsageError(const absl::Status& status);

// Of options that are a whole number; CLI11's own name the range of a double when one is wrong.
inline const CLI::Range kPositive(1, std::numeric_limits<int>::max(), "POSITIVE");
inline const CLI::Range kNotNegative(0, std::numeric_limits<int>::max(), "NONNEGATIVE");
// Of options that name files or folders to read.
inline const CLI::Validator kExisting = CLI::detail::ExistingPathValidator().description("");

// Of an option that is a Trainer::Precision: fp32, bf16 or fp16.
CLI::Validator PrecisionByName();

void AddTrain(CLI::App& app, Action& action);
void AddEval(CLI::App& app, Action& action);
void AddPredict(CLI::App& app, Action& action);
void AddShow(CLI::App& app, Action& action);
void AddList(CLI::App& app, Action& action);
void AddCheck(CLI::App& app, Action& action);
void AddBench(CLI::App& app, Action& action);
void AddImport(CLI::App& app, Action& action);
void AddExport(CLI::App& app, Action& action);
void AddReplay(CLI::App& app, Action& action);

// The arguments that name a spec: SPEC and --set path=value.
struct SpecArguments {
  std::string path;  // a run directory stands for the spec in it
  std::vector<std::string> overrides;

  void AddTo(CLI::App& command);
  // Whether it is a run directory.
  bool IsRun() const;
  // Reads and checks the spec, and hands over the data that it opened for that. Every mistake is printed to standard
  // error with its place; the status then counts them. `resumes` tells of a training whether it goes on.
  absl::StatusOr<Spec> Load(DataParts* data = nullptr,
                            const std::function<bool(const Experiment&)>& resumes = nullptr) const;
  // The same for what needs the model alone: the data set may be absent, and is not looked at.
  absl::StatusOr<Spec> LoadForModel() const;

 private:
  absl::StatusOr<Spec> LoadAndCheck(const std::function<absl::Status(const Experiment&)>& check) const;
};

// The arguments that name weights: --checkpoint and --ema.
struct CheckpointArguments {
  std::string path;
  bool ema = false;

  void AddTo(CLI::App& command);
  // Without --checkpoint they are those of the run directory that SPEC is; a UsageError where it is none.
  absl::Status CompleteFrom(const SpecArguments& spec);
  absl::StatusOr<Safetensors> Read() const;
  // Copies what Read returned into the task and says on standard error what became of each tensor. An error where a
  // weight of the model, or of an objective where `with_objectives` says so, would be left as it was at random.
  absl::Status LoadInto(Task& task, const Safetensors& weights, bool with_objectives = false) const;
};

// The classes of a model that has these weights: the checkpoint's, where it was trained here, else the data set's,
// where there is one.
std::vector<std::string> ClassNames(const Experiment& experiment, const Safetensors& weights);

// A CSV field, quoted where it must be (RFC 4180).
std::string CsvField(const std::string& text);

// A UsageError where the folder that shall hold `path` does not exist: before any work is done for it.
absl::Status CheckFolderOf(const std::string& path);

}  // namespace graticule

#endif  // GRATICULE_APP_COMMAND_H_
