#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/command.h"
#include "nlohmann/json.hpp"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr char kTimm[] = "timm";
constexpr char kOwn[] = "graticule";

struct Arguments {
  SpecArguments spec;
  CheckpointArguments checkpoint;
  std::string output;
  std::string layout = kTimm;
};

// The number that was written down, 0.485, rather than the float next to it.
Json Decimal(float value) {
  double decimal = value;
  CHECK(absl::SimpleAtod(absl::StrCat(value), &decimal));
  return decimal;
}

// What timm.create_model("local-dir:FOLDER") reads.
absl::StatusOr<Json> TimmConfig(const Experiment& experiment, const Task& task, const TimmModel& model,
                                const std::vector<std::string>& class_names) {
  ASSIGN_OR_RETURN(const DataParts data, BuildEvalTransforms(experiment));
  Preprocessing preprocessing;
  for (const auto& transform : data.eval_transforms) transform->Describe(preprocessing);
  const ChannelStatistics statistics = StatisticsOf(experiment.data());

  Json classifiers = Json::array();
  at::Tensor classifier;
  const Safetensors tensors = ModelTensors(task);
  for (const std::string& name : task.ClassifierNames()) {
    if (!name.ends_with(".weight")) continue;
    classifiers.push_back(name.substr(0, name.rfind('.')));
    classifier = tensors.Find(name);
  }
  const int64_t classes = classifier.size(0);

  Json mean = Json::array(), std = Json::array();
  for (const float value : statistics.mean) mean.push_back(Decimal(value));
  for (const float value : statistics.std) std.push_back(Decimal(value));
  Json model_args = Json::object();
  for (const auto& [name, value] : model.arguments) {
    model_args[name] = std::visit([](const auto& alternative) { return Json(alternative); }, value);
  }
  Json config = {{"architecture", model.architecture},
                 {"num_classes", classes},
                 {"num_features", classifier.size(1)},
                 {"global_pool", model_args["global_pool"]},
                 {"model_args", model_args},
                 {"pretrained_cfg",
                  {{"architecture", model.architecture},
                   {"input_size", {3, data.image_size.height, data.image_size.width}},
                   {"fixed_input_size", true},
                   {"interpolation", preprocessing.interpolation},
                   {"crop_pct", preprocessing.crop_pct},
                   {"crop_mode", preprocessing.crop_mode},
                   {"mean", mean},
                   {"std", std},
                   {"num_classes", classes},
                   {"pool_size", nullptr},
                   {"first_conv", model.first_conv},
                   {"classifier", classifiers.size() == 1 ? classifiers[0] : classifiers}}}};
  if (static_cast<int64_t>(class_names.size()) == classes) config["label_names"] = class_names;
  return config;
}

// The model's tensors by the names of a layout.
absl::StatusOr<Safetensors> Renamed(const Task& task, const std::string& layout_name) {
  std::vector<std::string> names = {kTimm, kOwn};
  for (const WeightLayout& layout : task.Layouts()) {
    if (!layout.refusal.empty()) continue;
    names.push_back(layout.name);
    if (layout.name != layout_name) continue;
    Safetensors renamed;
    for (const auto& [name, tensor] : ModelTensors(task).tensors) {
      const std::string there = layout.name_there(name);
      if (there.empty()) {
        return absl::UnimplementedError(
            absl::StrCat(layout.name, " has no ", name, ": without it the model is another function"));
      }
      renamed.tensors.emplace_back(there, layout.tensor_there(name, tensor));
    }
    return renamed;
  }
  return UsageError(
      absl::StrCat("--layout: this model has no layout '", layout_name, "'; it has ", absl::StrJoin(names, ", ")));
}

absl::Status Export(Arguments arguments) {
  RETURN_IF_ERROR(arguments.checkpoint.CompleteFrom(arguments.spec));
  ASSIGN_OR_RETURN(const Spec spec, arguments.spec.LoadForModel());
  ASSIGN_OR_RETURN(const Safetensors weights, arguments.checkpoint.Read());
  const std::vector<std::string> class_names = ClassNames(spec.experiment(), weights);
  ASSIGN_OR_RETURN(const std::unique_ptr<Task> task, BuildTask(spec.experiment(), class_names));
  RETURN_IF_ERROR(arguments.checkpoint.LoadInto(*task, weights));

  Safetensors contents;
  std::string config;
  if (arguments.layout == kTimm) {
    const auto model = task->Timm();
    if (absl::IsUnimplemented(model.status())) {
      return absl::UnimplementedError(absl::StrCat(std::string(model.status().message()), "; --layout=", kOwn,
                                                   " writes the weights by our names, without a config.json"));
    }
    RETURN_IF_ERROR(model.status());
    ASSIGN_OR_RETURN(const Json json, TimmConfig(spec.experiment(), *task, *model, class_names));
    config = json.dump(2) + "\n";
    contents = ModelTensors(*task);
  } else if (arguments.layout == kOwn) {
    contents = ModelTensors(*task);
  } else {
    ASSIGN_OR_RETURN(contents, Renamed(*task, arguments.layout));
  }
  if (!class_names.empty()) contents.metadata[kClassNamesKey] = absl::StrJoin(class_names, "\n");

  std::error_code error;
  fs::create_directories(arguments.output, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", arguments.output, ": ", error.message()));
  const std::string file = arguments.output + "/model.safetensors";
  RETURN_IF_ERROR(WriteFileAtomically(file, SerializeSafetensors(contents)));
  std::cout << "wrote " << file << ": " << contents.tensors.size() << " tensors\n";
  if (config.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(WriteFileAtomically(arguments.output + "/config.json", config));
  std::cout << "wrote " << arguments.output << "/config.json\n"
            << "in Python: timm.create_model(\"local-dir:" << arguments.output << "\", checkpoint_path=\"" << file
            << "\")\n";
  return absl::OkStatus();
}

}  // namespace

void AddExport(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("export", "Write a model for timm, without its objectives");
  arguments->spec.AddTo(*command);
  arguments->checkpoint.AddTo(*command);
  command
      ->add_option("--output", arguments->output, "The folder to write: model.safetensors and, for timm, config.json")
      ->required()
      ->type_name("FOLDER");
  command
      ->add_option("--layout", arguments->layout,
                   "Whose names the weights get: timm, graticule, or another code that has the model, such as "
                   "microsoft/Swin-Transformer")
      ->capture_default_str()
      ->type_name("NAME");
  command->callback([arguments, &action] { action = [arguments] { return Export(*arguments); }; });
}

}  // namespace graticule
