#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/command.h"
#include "app/model_summary.h"
#include "plugin/status.h"

namespace graticule {

void AddShow(CLI::App& app, Action& action) {
  struct Arguments {
    SpecArguments spec;
    int depth = 2;
    bool print_spec = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("show", "What an experiment's model consists of: parameters, multiply-adds, modules, shapes");
  arguments->spec.AddTo(*command);
  command->add_option("--depth", arguments->depth, "Levels of modules in the table [2]")->check(kNotNegative);
  command->add_flag("--spec", arguments->print_spec, "Also print the spec with its bases and overrides resolved");
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      ASSIGN_OR_RETURN(const Spec spec, arguments->spec.LoadForModel());
      ASSIGN_OR_RETURN(const ModelSummary summary, SummariseModel(spec.experiment(), arguments->depth));
      int64_t of_objectives = 0;
      std::vector<std::string> by_name;
      for (const auto& [name, count] : summary.objective_parameters) {
        of_objectives += count;
        by_name.push_back(absl::StrCat(name, " ", count));
      }
      std::cout << "name: " << spec.experiment().name() << "\n"
                << "parameters: " << summary.parameters << "\n"
                << "objective parameters: " << of_objectives
                << (by_name.empty() ? "" : absl::StrCat(" (", absl::StrJoin(by_name, ", "), ")")) << "\n"
                << absl::StrFormat("MACs: %.4g G (an image of %d×%d)\n\n", summary.macs.total / 1e9,
                                   summary.image_size.height, summary.image_size.width)
                << summary.table;
      if (arguments->print_spec) std::cout << "\n" << PrintExperiment(spec.experiment());
      return absl::OkStatus();
    };
  });
}

}  // namespace graticule
