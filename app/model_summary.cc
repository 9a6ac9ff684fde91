#include "app/model_summary.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

#include "ATen/ops/empty.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "plugin/status.h"
#include "tasks/task.h"
#include "trainer/parts.h"
#include "trainer/progress.h"

namespace graticule {
namespace {

// A module, or a parameter that belongs to one without a name.
struct Node {
  std::string name;  // below its parent's
  std::string type;
  std::vector<std::string> shapes;  // of its own parameters
  int64_t parameters = 0;           // with all below
  int64_t macs = 0;
  std::vector<Node> children;

  // But for the name.
  bool operator==(const Node& other) const {
    return type == other.type && shapes == other.shapes && macs == other.macs && children == other.children;
  }
};

std::string Shape(const at::Tensor& tensor) { return tensor.dim() == 0 ? "1" : absl::StrJoin(tensor.sizes(), "×"); }

std::string NameBelow(const std::string& parent, const std::string& name) {
  return parent.empty() || name == parent ? name : name.substr(parent.size() + 1);
}

// Reads the preorder that Module::Visit gives.
class TreeReader {
 public:
  TreeReader(const Module& root, const MacCount& macs) : macs_(macs) {
    root.Visit([&](const std::string& name, const Module& module) { modules_.emplace_back(name, &module); });
  }

  // The module at `next_` with all below it.
  Node Read(const std::string& parent) {
    const auto [name, module] = modules_[next_];
    size_t end = next_;
    module->Visit([&](const std::string&, const Module&) { ++end; });
    Node node{.name = NameBelow(parent, name), .type = module->TypeName()};
    std::vector<NamedParameter> own = module->Parameters();
    ++next_;
    while (next_ < end) {
      const auto [child_name, child] = modules_[next_];
      for (const NamedParameter& below : child->Parameters()) {
        std::erase_if(own, [&](const NamedParameter& each) { return each.tensor.is_same(below.tensor); });
      }
      Node read = Read(name);
      node.parameters += read.parameters;
      node.macs += read.macs;
      if (child_name != name) {
        node.children.push_back(std::move(read));
      } else {
        // A level without a name adds none to the table.
        std::move(read.children.begin(), read.children.end(), std::back_inserter(node.children));
      }
    }
    // Those of the root and of levels without a name have lines of their own.
    const bool named = !node.name.empty() && name != parent;
    for (const NamedParameter& parameter : own) {
      const auto macs =
          macs_.by_parameter.find(name.empty() ? parameter.name : absl::StrCat(name, ".", parameter.name));
      Node leaf{.name = parameter.name, .type = "parameter", .shapes = {Shape(parameter.tensor)}};
      leaf.parameters = parameter.tensor.numel();
      leaf.macs = macs == macs_.by_parameter.end() ? 0 : macs->second;
      node.parameters += leaf.parameters;
      node.macs += leaf.macs;
      if (named) {
        node.shapes.push_back(absl::StrCat(parameter.name, " ", leaf.shapes[0]));
      } else {
        node.children.insert(node.children.begin() + (&parameter - own.data()), std::move(leaf));
      }
    }
    return node;
  }

 private:
  const MacCount& macs_;
  std::vector<std::pair<std::string, const Module*>> modules_;
  size_t next_ = 0;
};

using Row = std::array<std::string, 5>;

// "blocks.11" is "blocks." and 11.
bool SplitNumber(const std::string& name, std::string* stem, int64_t* number) {
  const size_t digits = name.find_last_not_of("0123456789") + 1;
  *stem = name.substr(0, digits);
  return absl::SimpleAtoi(name.substr(digits), number);
}

// How many nodes from `first` on are alike and numbered one after the other.
size_t CountAlike(const std::vector<Node>& nodes, size_t first) {
  std::string stem, other_stem;
  int64_t number, other_number;
  if (!SplitNumber(nodes[first].name, &stem, &number)) return 1;
  size_t count = 1;
  while (first + count < nodes.size() && SplitNumber(nodes[first + count].name, &other_stem, &other_number) &&
         other_stem == stem && other_number == number + static_cast<int64_t>(count) &&
         nodes[first + count] == nodes[first]) {
    ++count;
  }
  return count;
}

std::string Megas(int64_t macs) { return macs == 0 ? "" : absl::StrFormat("%.2f M", macs / 1e6); }

void AddRows(const std::vector<Node>& nodes, const std::string& indent, int depth, std::vector<Row>& rows) {
  if (depth == 0) return;
  for (size_t i = 0; i < nodes.size();) {
    const Node& node = nodes[i];
    const size_t count = CountAlike(nodes, i);
    std::string name = indent + node.name, times;
    if (count > 1) {
      std::string stem;
      int64_t last;
      SplitNumber(nodes[i + count - 1].name, &stem, &last);
      absl::StrAppend(&name, "–", last, " (×", count, ")");
      times = absl::StrCat(count, " × ");
    }
    const std::string macs = Megas(node.macs);
    rows.push_back({name, node.type, absl::StrJoin(node.shapes, ", "),
                    node.parameters == 0 ? "" : absl::StrCat(times, WithThousands(node.parameters)),
                    macs.empty() ? "" : absl::StrCat(times, macs)});
    AddRows(node.children, indent + "  ", depth - 1, rows);
    i += count;
  }
}

// Columns of a terminal that UTF-8 text of this project takes.
size_t Width(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// Words to the left, the two columns of numbers to the right.
std::string FormatRows(const std::vector<Row>& rows) {
  std::array<size_t, 5> widths = {};
  for (const Row& row : rows) {
    for (size_t column = 0; column < row.size(); ++column)
      widths[column] = std::max(widths[column], Width(row[column]));
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t column = 0; column < row.size(); ++column) {
      const std::string padding(widths[column] - Width(row[column]), ' ');
      absl::StrAppend(&line, column == 0 ? "" : "  ", column < 3 ? "" : padding, row[column],
                      column < 3 ? padding : "");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

absl::StatusOr<std::unique_ptr<Task>> BuildOnMeta(const Experiment& experiment,
                                                  const std::vector<std::string>& class_names) {
  MetaScope meta;
  return BuildTask(experiment, class_names);
}

// A task that was built without knowing its classes has a classifier of no rows.
bool LacksClasses(const Task& task) {
  const std::vector<NamedParameter> parameters = task.ModelParameters();
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const NamedParameter& parameter) { return parameter.tensor.numel() == 0; });
}

absl::StatusOr<MacCount> CountPrediction(Task& task, Size2d image_size, c10::Device device) {
  task.SetTraining(false);
  try {
    return CountMacs(task.ModelParameters(), [&] {
      task.Predict(at::empty({1, 3, image_size.height, image_size.width}, device), {});
    });
  } catch (...) {
    return CurrentExceptionToStatus("prediction of one image");
  }
}

}  // namespace

std::string ModuleTable(const Module& root, const MacCount& macs, int depth) {
  std::vector<Row> rows = {{"module", "type", "shapes", "parameters", "MACs"}};
  AddRows(TreeReader(root, macs).Read("").children, "", depth, rows);
  for (const auto& [name, count] : macs.by_operator) rows.push_back({name, "operator", "", "", Megas(count)});
  return FormatRows(rows);
}

absl::StatusOr<ModelSummary> SummariseModel(const Experiment& experiment, int depth,
                                            const std::vector<std::string>& class_names) {
  ModelSummary summary{.class_names = class_names};
  ASSIGN_OR_RETURN(const DataParts images, BuildEvalTransforms(experiment));
  summary.image_size = images.image_size;
  ASSIGN_OR_RETURN(std::unique_ptr<Task> task, BuildOnMeta(experiment, class_names));
  if (LacksClasses(*task)) {
    const auto data = BuildData(experiment);
    if (!data.ok()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the number of classes is not known: task.num_classes is not given, and the data set can't be opened: ",
          std::string(data.status().message())));
    }
    summary.class_names = data->train->class_names();
    ASSIGN_OR_RETURN(task, BuildOnMeta(experiment, summary.class_names));
  }
  summary.grid = task->grid();
  for (const NamedParameter& parameter : task->ModelParameters()) {
    summary.parameters += parameter.tensor.numel();
  }
  for (const auto& [name, parameters] : task->ObjectiveParameters()) {
    int64_t& count = summary.objective_parameters[name];
    for (const NamedParameter& parameter : parameters) count += parameter.tensor.numel();
  }
  auto macs = CountPrediction(*task, summary.image_size, c10::kMeta);
  if (!macs.ok()) {
    // Some operator has no shapes on the meta device, so the weights are needed after all.
    ASSIGN_OR_RETURN(const std::unique_ptr<Task> real, BuildTask(experiment, summary.class_names));
    macs = CountPrediction(*real, summary.image_size, c10::kCPU);
  }
  ASSIGN_OR_RETURN(summary.macs, std::move(macs));
  summary.table = ModuleTable(*task, summary.macs, depth);
  return summary;
}

}  // namespace graticule
