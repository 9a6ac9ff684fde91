#include <cstdlib>
#include <memory>
#include <string>

#include "app/command.h"
#include "plugin/status.h"
#include "trainer/trainer.h"

namespace graticule {

void AddTrain(CLI::App& app, Action& action) {
  struct Arguments {
    SpecArguments spec;
    TrainOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("train", "Train an experiment, or go on with it where it was left");
  arguments->spec.AddTo(*command);
  command->add_option("--output", arguments->options.output, "Run directory [runs/NAME, NAME being the spec's]")
      ->type_name("DIR");
  command->add_flag("--allow-changed-spec", arguments->options.allow_changed_spec,
                    "Go on with a run although its spec was changed since");
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      ASSIGN_OR_RETURN(const Spec spec, arguments->spec.Load());
      TrainOptions options = arguments->options;
      if (options.output.empty()) options.output = "runs/" + spec.experiment().name();
      // Set by the script that builds and starts the program.
      if (const char* command = std::getenv("GRATICULE_COMMAND")) options.command = command;
      return Train(spec.experiment(), options);
    };
  });
}

}  // namespace graticule
