#include <iostream>
#include <memory>

#include "app/command.h"
#include "app/list.h"

namespace graticule {

void AddList(CLI::App& app, Action& action) {
  auto markdown = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("list", "Every plugin of this program: its fields, their defaults, an example");
  command->add_flag("--markdown", *markdown, "As docs/reference.md, with the fields of the experiment too");
  command->callback([markdown, &action] {
    action = [markdown]() -> absl::Status {
      PrintPlugins(std::cout, *markdown);
      return absl::OkStatus();
    };
  });
}

}  // namespace graticule
