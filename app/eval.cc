#include <algorithm>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "app/command.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/device.h"
#include "trainer/evaluate.h"
#include "trainer/parts.h"

namespace graticule {

void AddEval(CLI::App& app, Action& action) {
  struct Arguments {
    SpecArguments spec;
    std::string checkpoint;
    bool ema = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("eval", "Measure a checkpoint on the experiment's validation images");
  arguments->spec.AddTo(*command);
  command
      ->add_option("--checkpoint", arguments->checkpoint,
                   "A run directory, a step folder, or any safetensors file with timm's names")
      ->required()
      ->type_name("FILE");
  command->add_flag("--ema", arguments->ema, "Use the moving average of the weights, where the checkpoint has one");
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      ASSIGN_OR_RETURN(const Spec spec, arguments->spec.Load());
      const Experiment& experiment = spec.experiment();
      SetThreads(experiment.trainer());
      ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(experiment.trainer()));
      ASSIGN_OR_RETURN(const DataParts data, BuildData(experiment));
      ASSIGN_OR_RETURN(const std::unique_ptr<Task> task, BuildTask(experiment, data.train->class_names()));
      ASSIGN_OR_RETURN(const Safetensors weights, ReadWeights(arguments->checkpoint, arguments->ema));
      ASSIGN_OR_RETURN(const LoadReport report, LoadModelWeights(weights, *task), arguments->checkpoint);
      std::cerr << arguments->checkpoint << ": " << report.ToString() << "\n";
      task->To(device);
      const std::unique_ptr<Loader> loader = data.EvalLoader(experiment);
      const Normalizer normalize(experiment.data(), device);
      ASSIGN_OR_RETURN(const auto metrics,
                       Evaluate(*task, *loader, normalize, experiment.trainer().precision(), device));
      std::cout << "images: " << data.val->size() - loader->broken() << "\n";
      for (const auto& [name, value] : metrics) std::cout << absl::StrFormat("%s: %.4f\n", name, value);
      return absl::OkStatus();
    };
  });
}

}  // namespace graticule
