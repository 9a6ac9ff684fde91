#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/command.h"
#include "plugin/file.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

// In the metadata of the file that is written: whose names the weights had (WeightLayout::name).
constexpr char kSourceLayoutKey[] = "source_layout";

void Print(const char* what, const std::vector<std::string>& names) {
  if (!names.empty()) std::cout << what << ": " << absl::StrJoin(names, ", ") << "\n";
}

// The weights that were loaded: the task's, without those that are fresh.
Safetensors Loaded(const Task& task, const LoadReport& report) {
  const std::set<std::string> fresh(report.reinitialised.begin(), report.reinitialised.end());
  Safetensors contents;
  for (const auto& [name, tensor] : ModelTensors(task).tensors) {
    if (fresh.count(name) == 0) contents.tensors.emplace_back(name, tensor);
  }
  const std::set<std::string> objectives(report.objectives.begin(), report.objectives.end());
  for (const auto& [name, parameters] : task.ObjectiveParameters()) {
    if (objectives.count(name) == 0) continue;
    for (const NamedParameter& parameter : parameters) {
      contents.tensors.emplace_back(absl::StrCat(kObjectivesPrefix, name, ".", parameter.name),
                                    parameter.tensor.detach());
    }
  }
  return contents;
}

}  // namespace

void AddImport(CLI::App& app, Action& action) {
  struct Arguments {
    SpecArguments spec;
    CheckpointArguments checkpoint;
    std::string output;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "import", "Turn a checkpoint of timm or of a model's official code into one of this experiment's model");
  arguments->spec.AddTo(*command);
  arguments->checkpoint.AddTo(*command);
  command->add_option("--output", arguments->output, "The safetensors file to write")->required()->type_name("FILE");
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      RETURN_IF_ERROR(arguments->checkpoint.CompleteFrom(arguments->spec));
      ASSIGN_OR_RETURN(const Spec spec, arguments->spec.LoadForModel());
      ASSIGN_OR_RETURN(const Safetensors weights, arguments->checkpoint.Read());
      const std::vector<std::string> class_names = ClassNames(spec.experiment(), weights);
      ASSIGN_OR_RETURN(const std::unique_ptr<Task> task, BuildTask(spec.experiment(), class_names));
      ASSIGN_OR_RETURN(const LoadReport report, LoadWeights(weights, *task), arguments->checkpoint.path);

      Safetensors contents = Loaded(*task, report);
      const std::string layout = report.layout.empty() ? "timm or graticule" : report.layout;
      contents.metadata[kSourceLayoutKey] = layout;
      if (const auto names = weights.metadata.find(kClassNamesKey); names != weights.metadata.end()) {
        contents.metadata.insert(*names);
      }
      RETURN_IF_ERROR(WriteFileAtomically(arguments->output, SerializeSafetensors(contents)));

      std::cout << "layout: " << layout << "\n";
      if (!report.prefix.empty()) std::cout << "prefix: " << report.prefix << "\n";
      std::cout << "loaded as they are: " << report.loaded.size() << " tensors\n";
      Print("resized to this model's size", report.adapted);
      Print("objectives", report.objectives);
      Print("objectives without weights there", report.fresh_objectives);
      Print("left out, as the checkpoint has other classes than the experiment, or none", report.reinitialised);
      Print("ignored, as the model has none of this name", report.ignored);
      std::cout << "wrote " << arguments->output << ": " << contents.tensors.size() << " tensors\n";
      return absl::OkStatus();
    };
  });
}

}  // namespace graticule
