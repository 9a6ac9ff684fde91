#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/batch_figure.h"
#include "app/command.h"
#include "app/model_summary.h"
#include "data/draw.h"
#include "plugin/status.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

struct Arguments {
  SpecArguments spec;
  int depth = 2;
  bool print_spec = false;
  std::string batch;
  int images = 16;
};

void Print(const Experiment& experiment, const ModelSummary& summary, bool print_spec) {
  int64_t of_objectives = 0;
  std::vector<std::string> by_name;
  for (const auto& [name, count] : summary.objective_parameters) {
    of_objectives += count;
    by_name.push_back(absl::StrCat(name, " ", count));
  }
  std::cout << "name: " << experiment.name() << "\n";
  if (!summary.class_names.empty()) std::cout << "classes: " << summary.class_names.size() << "\n";
  std::cout << "parameters: " << summary.parameters << "\n"
            << "objective parameters: " << of_objectives
            << (by_name.empty() ? "" : absl::StrCat(" (", absl::StrJoin(by_name, ", "), ")")) << "\n"
            << absl::StrFormat("MACs: %.4g G (an image of %d×%d)\n\n", summary.macs.total / 1e9,
                               summary.image_size.height, summary.image_size.width)
            << summary.table;
  if (print_spec) std::cout << "\n" << PrintExperiment(experiment);
}

// Training's first batch.
absl::StatusOr<Batch> FirstBatch(const DataParts& data, const Experiment& experiment) {
  const std::unique_ptr<Loader> loader = data.TrainLoader(experiment);
  loader->Start(/*epoch=*/0);
  ASSIGN_OR_RETURN(std::optional<Batch> batch, loader->Next());
  if (!batch) return absl::FailedPreconditionError("the data set has fewer images than a batch");
  return *std::move(batch);
}

absl::Status Show(const Arguments& arguments) {
  if (!arguments.batch.empty()) {
    if (std::filesystem::path(arguments.batch).extension() != ".png") {
      return UsageError(
          absl::StrCat("--batch writes a PNG file, so its name must end in .png; found ", arguments.batch));
    }
    RETURN_IF_ERROR(CheckFolderOf(arguments.batch));
  }
  // The model can be shown without the data, a batch can't.
  const bool only_model = arguments.batch.empty();
  DataParts data;
  ASSIGN_OR_RETURN(const Spec spec, only_model ? arguments.spec.LoadForModel() : arguments.spec.Load(&data));
  const Experiment& experiment = spec.experiment();
  if (only_model) data = BuildData(experiment).value_or(DataParts());
  std::vector<std::string> class_names;
  if (data.train != nullptr) class_names = data.train->class_names();
  ASSIGN_OR_RETURN(const ModelSummary summary, SummariseModel(experiment, arguments.depth, class_names));
  Print(experiment, summary, arguments.print_spec);
  if (only_model) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Batch batch, FirstBatch(data, experiment));
  RETURN_IF_ERROR(WritePng(arguments.batch, DrawBatch(batch, arguments.images, class_names, summary.grid)));
  std::cerr << "wrote " << arguments.batch << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddShow(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("show", "What an experiment's model consists of: parameters, multiply-adds, modules, shapes");
  arguments->spec.AddTo(*command);
  command->add_option("--depth", arguments->depth, "Levels of modules in the table [2]")->check(kNotNegative);
  command->add_flag("--spec", arguments->print_spec, "Also print the spec with its bases and overrides resolved");
  command
      ->add_option("--batch", arguments->batch,
                   "Also draw the first batch of training as the model sees it, with labels and the patches' numbers")
      ->type_name("FILE.png");
  command->add_option("--images", arguments->images, "How many images of the batch are drawn at most [16]")
      ->check(kPositive);
  command->callback([arguments, &action] { action = [arguments] { return Show(*arguments); }; });
}

}  // namespace graticule
