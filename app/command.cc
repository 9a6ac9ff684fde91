#include "app/command.h"

#include <filesystem>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

constexpr char kUsageError[] = "graticule.UsageError";

}  // namespace

absl::Status UsageError(std::string_view message) {
  absl::Status status = absl::InvalidArgumentError(std::string(message));
  status.SetPayload(kUsageError, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) { return status.GetPayload(kUsageError).has_value(); }

CLI::Validator PrecisionByName() {
  const auto number_of = [](std::string& text) -> std::string {
    std::vector<std::string> names;
    for (const auto& [name, precision] : PrecisionsByName()) {
      names.push_back(name);
      if (name != absl::AsciiStrToLower(text)) continue;
      text = absl::StrCat(static_cast<int>(precision));
      return "";
    }
    return absl::StrCat("must be one of ", absl::StrJoin(names, ", "), "; found ", text);
  };
  return CLI::Validator(number_of, /*validator_desc=*/"");
}

void SpecArguments::AddTo(CLI::App& command) {
  command
      .add_option("SPEC", path,
                  "The experiment, a textproto file such as configs/quickstart.textproto, or a run directory")
      ->required();
  command
      .add_option("--set", overrides,
                  "Override a field: --set trainer.epochs=2 --set backbone.depth=6 --set objectives[0].weight=1")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
}

bool SpecArguments::IsRun() const {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

absl::StatusOr<Spec> SpecArguments::Load(DataParts* data, const std::function<bool(const Experiment&)>& resumes) const {
  return LoadAndCheck([data, &resumes](const Experiment& experiment) {
    absl::StatusOr<DataParts> opened = CheckExperiment(experiment, resumes != nullptr && resumes(experiment));
    if (opened.ok() && data != nullptr) *data = *std::move(opened);
    return opened.status();
  });
}

absl::StatusOr<Spec> SpecArguments::LoadForModel() const { return LoadAndCheck(&CheckModel); }

absl::StatusOr<Spec> SpecArguments::LoadAndCheck(const std::function<absl::Status(const Experiment&)>& check) const {
  const std::string file = IsRun() ? path + "/experiment.textproto" : path;
  Spec::Partial partial = Spec::LoadPartially(file, overrides);
  std::vector<std::string> errors = std::move(partial.errors);
  for (const std::string& error : partial.spec.Locate(check(partial.spec.experiment()))) errors.push_back(error);
  if (errors.empty()) return std::move(partial.spec);
  if (errors.size() == 1) return UsageError(absl::StrCat(errors[0], "; nothing was started"));
  for (const std::string& error : errors) std::cerr << error << "\n";
  return UsageError(absl::StrCat(errors.size(), " mistakes in ", file, "; nothing was started"));
}

void CheckpointArguments::AddTo(CLI::App& command) {
  command
      .add_option(
          "--checkpoint", path,
          "A run directory, a step folder, or a safetensors or .pth file of timm's or of the model's official code "
          "[SPEC, where that is a run directory]")
      ->type_name("FILE")
      ->check(kExisting);
  command.add_flag("--ema", ema, "Use the moving average of the weights, where the checkpoint has one");
}

absl::Status CheckpointArguments::CompleteFrom(const SpecArguments& spec) {
  if (!path.empty()) return absl::OkStatus();
  if (!spec.IsRun()) return UsageError(absl::StrCat("--checkpoint is required: ", spec.path, " is no run directory"));
  path = spec.path;
  return absl::OkStatus();
}

absl::StatusOr<Safetensors> CheckpointArguments::Read() const { return ReadWeights(path, ema); }

absl::Status CheckpointArguments::LoadInto(Task& task, const Safetensors& weights, bool with_objectives) const {
  ASSIGN_OR_RETURN(const LoadReport report, LoadWeights(weights, task), path);
  if (!report.reinitialised.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": the checkpoint has other classes than this experiment, or none: ", FirstFew(report.reinitialised),
        " would be random"));
  }
  if (with_objectives && !report.fresh_objectives.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": the checkpoint has no weights that fit the objectives: ",
                                                      FirstFew(report.fresh_objectives), " would be random"));
  }
  std::cerr << path << ": " << report.ToString() << "\n";
  return absl::OkStatus();
}

std::vector<std::string> ClassNames(const Experiment& experiment, const Safetensors& weights) {
  if (const auto saved = weights.metadata.find(kClassNamesKey); saved != weights.metadata.end()) {
    return absl::StrSplit(saved->second, '\n');
  }
  const auto data = BuildData(experiment);
  return data.ok() ? data->train->class_names() : std::vector<std::string>();
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

absl::Status CheckFolderOf(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return absl::OkStatus();
  return UsageError(absl::StrCat("cannot write ", path, ": there is no folder ", folder.string()));
}

}  // namespace graticule
