#include <iostream>
#include <memory>

#include "app/command.h"
#include "plugin/status.h"

namespace graticule {

void AddCheck(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<SpecArguments>();
  CLI::App* command = app.add_subcommand(
      "check", "Find every mistake of an experiment without starting it; exit code 2 if there are any");
  arguments->AddTo(*command);
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      RETURN_IF_ERROR(arguments->Load().status());
      std::cout << arguments->path << ": no mistakes\n";
      return absl::OkStatus();
    };
  });
}

}  // namespace graticule
