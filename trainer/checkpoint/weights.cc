#include "trainer/checkpoint/weights.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/core/GradMode.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"

namespace graticule {
namespace {

// What wrappers put in front of names: DataParallel, torch.compile, Lightning, and codes that have the model in a part
// of theirs.
constexpr const char* kWrappers[] = {"module.", "_orig_mod.", "model.", "backbone.", "encoder."};
// Files that people have need four at most.
constexpr size_t kMaxPrefixes = 16;

std::string ShapeText(const at::Tensor& tensor) { return absl::StrCat("[", absl::StrJoin(tensor.sizes(), ","), "]"); }

// Our own names, behind a prefix.
WeightLayout OwnLayout(const std::string& prefix = "") {
  return {.name_there = [prefix](const std::string& ours) { return prefix + ours; }};
}

// "" and every sequence of wrappers that a name of the file starts with, shorter ones first.
std::vector<std::string> Prefixes(const Safetensors& weights) {
  std::vector<std::string> prefixes = {""};
  for (size_t i = 0; i < prefixes.size(); ++i) {
    for (const char* wrapper : kWrappers) {
      const std::string prefix = prefixes[i] + wrapper;
      const auto has_prefix = [&](const auto& entry) { return entry.first.starts_with(prefix); };
      if (prefixes.size() < kMaxPrefixes && std::any_of(weights.tensors.begin(), weights.tensors.end(), has_prefix)) {
        prefixes.push_back(prefix);
      }
    }
  }
  return prefixes;
}

// A checkpoint as one layout understands it.
class Reading {
 public:
  // A classifier may stand beside the wrapped backbone: names without the prefix stay as they are.
  Reading(const Safetensors& weights, const std::string& prefix, WeightLayout layout)
      : prefix_(prefix), layout_(std::move(layout)) {
    for (const auto& [name, tensor] : weights.tensors) {
      if (name.starts_with(prefix)) tensors_.emplace(name.substr(prefix.size()), tensor);
    }
    for (const auto& [name, tensor] : weights.tensors) {
      if (!name.starts_with(prefix)) tensors_.emplace(name, tensor);
    }
  }

  const std::string& prefix() const { return prefix_; }
  const WeightLayout& layout() const { return layout_; }
  const std::map<std::string, at::Tensor>& tensors() const { return tensors_; }

  // Undefined where there is none.
  at::Tensor Find(const std::string& ours) const { return Find(layout_, ours); }
  at::Tensor Find(const WeightLayout& layout, const std::string& ours) const {
    const std::string there = layout.name_there(ours);
    const auto found = there.empty() ? tensors_.end() : tensors_.find(there);
    return found == tensors_.end() ? at::Tensor() : found->second;
  }
  // How many tensors of the model have no counterpart: of all but the classifier, which may be fresh, and of that.
  std::pair<size_t, size_t> CountMissing(const Safetensors& model, const std::set<std::string>& classifier) const {
    std::pair<size_t, size_t> missing;
    for (const auto& [name, tensor] : model.tensors) {
      if (!Find(name).defined()) ++(classifier.count(name) == 0 ? missing.first : missing.second);
    }
    return missing;
  }

 private:
  std::string prefix_;
  WeightLayout layout_;
  std::map<std::string, at::Tensor> tensors_;  // by name without the prefix
};

// The one that leaves the fewest tensors of the model without a counterpart.
Reading FindReading(const Safetensors& weights, const Safetensors& model, const std::set<std::string>& classifier,
                    const std::vector<WeightLayout>& layouts) {
  std::optional<Reading> best;
  std::pair<size_t, size_t> least;
  for (const std::string& prefix : Prefixes(weights)) {
    for (const WeightLayout& layout : layouts) {
      Reading reading(weights, prefix, layout);
      const auto missing = reading.CountMissing(model, classifier);
      if (best.has_value() && missing >= least) continue;
      best = std::move(reading);
      least = missing;
    }
  }
  return *std::move(best);
}

class Loading {
 public:
  Loading(const Safetensors& weights, Task& task)
      : task_(task),
        model_(ModelTensors(task)),
        classifier_(ClassifierOf(task)),
        layouts_(LayoutsOf(task)),
        reading_(FindReading(weights, model_, classifier_, layouts_)) {
    report_.layout = reading_.layout().name;
    report_.prefix = reading_.prefix();
  }

  absl::StatusOr<LoadReport> Run() {
    MatchModel();
    auto other_layouts = task_.ObjectiveLayouts();
    for (const auto& [name, parameters] : task_.ObjectiveParameters()) {
      std::vector<WeightLayout>& layouts = other_layouts[name];
      layouts.insert(layouts.begin(), OwnLayout(kObjectivesPrefix + name + "."));
      (MatchObjective(parameters, layouts) ? report_.objectives : report_.fresh_objectives).push_back(name);
    }
    for (const auto& entry : reading_.tensors()) {
      const bool derived = std::any_of(layouts_.begin(), layouts_.end(),
                                       [&](const WeightLayout& layout) { return layout.is_derived(entry.first); });
      if (used_.count(entry.first) == 0 && !derived) report_.ignored.push_back(entry.first);
    }
    RETURN_IF_ERROR(CheckModel());
    c10::NoGradGuard no_grad;
    for (auto& [own, loaded] : copies_) own.copy_(loaded);
    return std::move(report_);
  }

 private:
  static std::set<std::string> ClassifierOf(const Task& task) {
    const std::vector<std::string> names = task.ClassifierNames();
    return {names.begin(), names.end()};
  }

  static std::vector<WeightLayout> LayoutsOf(const Task& task) {
    std::vector<WeightLayout> layouts = task.Layouts();
    layouts.insert(layouts.begin(), OwnLayout());
    return layouts;
  }

  void MatchModel() {
    const bool fresh_classifier = std::any_of(model_.tensors.begin(), model_.tensors.end(), [&](const auto& entry) {
      const at::Tensor loaded = reading_.Find(entry.first);
      return classifier_.count(entry.first) > 0 && (!loaded.defined() || loaded.sizes() != entry.second.sizes());
    });
    for (const auto& [name, own] : model_.tensors) {
      const at::Tensor loaded = reading_.Find(name);
      const std::string there = reading_.layout().name_there(name);
      const std::string described = there == name || there.empty() ? name : absl::StrCat(name, " (there ", there, ")");
      used_.insert(there);
      if (fresh_classifier && classifier_.count(name) > 0) {
        report_.reinitialised.push_back(name);
      } else if (!loaded.defined() && name.ends_with(".num_batches_tracked")) {
        continue;  // of no consequence, and left out by older versions of PyTorch
      } else if (!loaded.defined()) {
        missing_.push_back(described);
      } else if (loaded.sizes() == own.sizes()) {
        copies_.emplace_back(own, loaded);
        report_.loaded.push_back(name);
      } else if (const at::Tensor adapted = task_.Adapt(name, loaded); adapted.defined()) {
        CHECK_EQ(adapted.sizes(), own.sizes()) << name;
        copies_.emplace_back(own, adapted);
        report_.adapted.push_back(name);
      } else {
        misshapen_.push_back(absl::StrCat(described, " is ", ShapeText(loaded), " instead of ", ShapeText(own)));
      }
    }
  }

  // Whether all of an objective's weights are there by one of the layouts.
  bool MatchObjective(const std::vector<NamedParameter>& parameters, const std::vector<WeightLayout>& layouts) {
    for (const WeightLayout& layout : layouts) {
      if (!std::all_of(parameters.begin(), parameters.end(), [&](const NamedParameter& parameter) {
            const at::Tensor loaded = reading_.Find(layout, parameter.name);
            return loaded.defined() && loaded.sizes() == parameter.tensor.sizes();
          })) {
        continue;
      }
      for (const NamedParameter& parameter : parameters) {
        copies_.emplace_back(parameter.tensor, reading_.Find(layout, parameter.name));
        used_.insert(layout.name_there(parameter.name));
      }
      return true;
    }
    return false;
  }

  absl::Status CheckModel() const {
    const WeightLayout& layout = reading_.layout();
    if (missing_.empty() && !layout.refusal.empty()) {
      return absl::FailedPreconditionError(absl::StrCat("a checkpoint of ", layout.name, ", ", layout.refusal));
    }
    std::vector<std::string> problems;
    if (!misshapen_.empty()) {
      problems.push_back(absl::StrCat("the shapes of ", misshapen_.size(), " tensors differ: ", FirstFew(misshapen_)));
    }
    if (!missing_.empty()) {
      problems.push_back(absl::StrCat(missing_.size(), " tensors are missing: ", FirstFew(missing_)));
    }
    if (problems.empty()) return absl::OkStatus();
    if (!report_.ignored.empty()) problems.push_back(absl::StrCat("it has others: ", FirstFew(report_.ignored)));
    return absl::FailedPreconditionError(
        absl::StrCat("a checkpoint of another model",
                     layout.name.empty() ? "" : absl::StrCat(", nearest to the names of ", layout.name), ": ",
                     absl::StrJoin(problems, "; ")));
  }

  Task& task_;
  Safetensors model_;
  std::set<std::string> classifier_;
  std::vector<WeightLayout> layouts_;  // our own first
  Reading reading_;
  LoadReport report_;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies_;  // into the first, of the second
  std::set<std::string> used_;
  std::vector<std::string> missing_, misshapen_;  // as an error describes them
};

}  // namespace

Safetensors ModelTensors(const Task& task) {
  Safetensors model;
  for (const NamedParameter& parameter : task.ModelParameters()) {
    model.tensors.emplace_back(parameter.name, parameter.tensor.detach());
  }
  for (const NamedBuffer& buffer : task.ModelBuffers()) model.tensors.emplace_back(buffer.name, buffer.tensor);
  return model;
}

Safetensors ObjectiveTensors(const Task& task) {
  Safetensors objectives;
  for (const auto& [name, parameters] : task.ObjectiveParameters()) {
    for (const NamedParameter& parameter : parameters) {
      objectives.tensors.emplace_back(absl::StrCat(name, ".", parameter.name), parameter.tensor.detach());
    }
  }
  return objectives;
}

std::string LoadReport::ToString() const {
  std::string text = absl::StrCat(loaded.size(), " tensors loaded");
  if (!layout.empty()) absl::StrAppend(&text, " by the names of ", layout);
  if (!prefix.empty()) absl::StrAppend(&text, " behind '", prefix, "'");
  if (!objectives.empty()) absl::StrAppend(&text, "; objectives too: ", FirstFew(objectives));
  if (!adapted.empty()) absl::StrAppend(&text, "; adapted to this model's size: ", FirstFew(adapted));
  if (!reinitialised.empty()) {
    absl::StrAppend(&text, "; left fresh, as the checkpoint has other classes: ", FirstFew(reinitialised));
  }
  if (!fresh_objectives.empty()) absl::StrAppend(&text, "; fresh objectives: ", FirstFew(fresh_objectives));
  if (!ignored.empty()) absl::StrAppend(&text, "; ignored, as the model has none of this name: ", FirstFew(ignored));
  return text;
}

absl::StatusOr<LoadReport> LoadWeights(const Safetensors& weights, Task& task) { return Loading(weights, task).Run(); }

}  // namespace graticule
