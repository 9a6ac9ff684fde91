#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "app/command.h"
#include "plugin/status.h"
#include "trainer/device.h"
#include "trainer/evaluate.h"
#include "trainer/parts.h"

namespace graticule {

void AddEval(CLI::App& app, Action& action) {
  struct Arguments {
    SpecArguments spec;
    CheckpointArguments checkpoint;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("eval", "Measure a checkpoint on the experiment's validation images");
  arguments->spec.AddTo(*command);
  arguments->checkpoint.AddTo(*command);
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      RETURN_IF_ERROR(arguments->checkpoint.CompleteFrom(arguments->spec));
      DataParts data;
      // Whatever the training started from.
      ASSIGN_OR_RETURN(const Spec spec, arguments->spec.Load(&data, [](const Experiment&) { return true; }));
      const Experiment& experiment = spec.experiment();
      SetThreads(experiment.trainer());
      SetTf32(experiment.trainer());
      ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(experiment.trainer()));
      ASSIGN_OR_RETURN(const std::unique_ptr<Task> task, BuildTask(experiment, data.train->class_names()));
      ASSIGN_OR_RETURN(const Safetensors weights, arguments->checkpoint.Read());
      RETURN_IF_ERROR(arguments->checkpoint.LoadInto(*task, weights));
      task->To(device);
      const std::unique_ptr<Loader> loader = data.EvalLoader(experiment);
      const Normalizer normalize(experiment.data(), device);
      ASSIGN_OR_RETURN(const auto metrics,
                       Evaluate(*task, *loader, normalize, experiment.trainer().precision(), device));
      std::cout << "images: " << data.val->size() - loader->broken() << "\n";
      for (const auto& [name, value] : metrics.Means()) std::cout << absl::StrFormat("%s: %.4f\n", name, value);
      return absl::OkStatus();
    };
  });
}

}  // namespace graticule
