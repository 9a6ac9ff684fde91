#include "trainer/optimizers/parameter_groups.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backbones/backbone.h"
#include "c10/core/TensorImpl.h"
#include "nn/module.h"

namespace graticule {
namespace {

std::string GroupPath(int group, std::string_view field) {
  return absl::StrCat("trainer.parameter_groups[", group, "]", field.empty() ? "" : ".", std::string(field));
}

// Whether `name` is `scope` or lies under it.
bool IsWithin(const std::string& name, const std::string& scope) {
  return name.starts_with(scope) && (name.size() == scope.size() || scope.empty() || name[scope.size()] == '.');
}

struct Places {
  int64_t layers = 0;           // L
  std::vector<int64_t> places;  // of each parameter, 0 to L + 1
};

Places FindPlaces(const Module& task, const std::vector<NamedParameter>& parameters) {
  std::vector<std::string> layers;               // their names, in order
  std::map<std::string, int64_t> members;        // names of what else belongs to one
  std::set<const c10::TensorImpl*> of_backbone;  // the tensors of its parameters
  task.Visit([&](const std::string& name, const Module& module) {
    // Children follow their parent at once.
    if (module.IsLayer() && (layers.empty() || !IsWithin(name, layers.back()))) layers.push_back(name);
    for (const auto& [member, layer] : module.LayerMembers()) {
      members[name.empty() ? member : name + "." + member] = layer;
    }
    if (dynamic_cast<const Backbone*>(&module) != nullptr) {
      for (const NamedParameter& parameter : module.Parameters()) {
        of_backbone.insert(parameter.tensor.unsafeGetTensorImpl());
      }
    }
  });

  const int64_t count = static_cast<int64_t>(layers.size());
  Places result{.layers = count, .places = std::vector<int64_t>(parameters.size(), -1)};
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto within = [&](const auto& scope) { return IsWithin(parameters[i].name, scope); };
    const auto layer = std::find_if(layers.begin(), layers.end(), within);
    if (layer != layers.end()) result.places[i] = layer - layers.begin() + 1;
  }
  const auto in_a_layer = [](int64_t place) { return place > 0; };
  const auto first = std::find_if(result.places.begin(), result.places.end(), in_a_layer) - result.places.begin();
  int64_t next = count + 1;  // the place of the layer after this parameter
  for (int64_t i = static_cast<int64_t>(parameters.size()) - 1; i >= 0; --i) {
    int64_t& place = result.places[i];
    const auto member = std::find_if(members.begin(), members.end(),
                                     [&](const auto& entry) { return IsWithin(parameters[i].name, entry.first); });
    if (in_a_layer(place)) {
      next = place;
    } else if (member != members.end()) {
      place = member->second + 1;
    } else if (i < first) {
      place = 0;
    } else {
      const bool is_last = next > count && of_backbone.count(parameters[i].tensor.unsafeGetTensorImpl()) != 0;
      place = is_last ? count : next;
    }
  }
  return result;
}

TrainedParameter::Role FindRole(const NamedParameter& parameter, int64_t place, int64_t layers,
                                const std::set<std::string>& classifiers) {
  using Role = TrainedParameter::Role;
  if (classifiers.count(parameter.name) != 0) return Role::kClassifier;
  const at::Tensor& tensor = parameter.tensor;
  // Depth-wise kernels have no second axis to speak of.
  const bool is_matrix = tensor.dim() >= 2 && tensor.size(0) > 1 && tensor.size(1) > 1;
  return is_matrix && parameter.decay && place >= 1 && place <= layers ? Role::kMatrix : Role::kOther;
}

// What a pattern could have meant: the names, and "SCOPE.*" of each scope.
std::vector<std::string> PossiblePatterns(const std::vector<std::string>& names) {
  std::set<std::string> patterns(names.begin(), names.end());
  for (const std::string& name : names) {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      patterns.insert(name.substr(0, dot) + ".*");
    }
  }
  return {patterns.begin(), patterns.end()};
}

// "cls_token, patch_embed.*, blocks.* …": the names' first parts, in order.
std::vector<std::string> Overview(const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (const std::string& name : names) {
    const size_t dot = name.find('.');
    std::string part = dot == std::string::npos ? name : name.substr(0, dot) + ".*";
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

void CheckParameterGroups(const Trainer& trainer, FieldErrors& errors) {
  for (int i = 0; i < trainer.parameter_groups_size(); ++i) {
    const ParameterGroup& group = trainer.parameter_groups(i);
    const auto check = [&](std::string_view field, bool given, double value) {
      if (!given) return;
      if (!(value >= 0 && std::isfinite(value))) {
        errors.Add(GroupPath(i, field), absl::StrCat("must not be negative, found ", value));
      } else if (group.frozen()) {
        errors.Add(GroupPath(i, field), "has no effect on frozen parameters");
      }
    };
    if (group.pattern().empty()) errors.Add(GroupPath(i, "pattern"), "must be given, such as \"blocks.0.*\"");
    check("learning_rate", group.has_learning_rate(), group.learning_rate());
    check("weight_decay", group.has_weight_decay(), group.weight_decay());
  }
  if (trainer.layer_decay() != 0 && !(trainer.layer_decay() > 0 && trainer.layer_decay() <= 1)) {
    errors.Add("trainer.layer_decay", absl::StrCat("must be in (0, 1], found ", trainer.layer_decay()));
  }
}

absl::StatusOr<std::vector<TrainedParameter>> TrainedParameters(const Trainer& trainer, const Task& task) {
  FieldErrors errors;
  CheckParameterGroups(trainer, errors);
  const std::vector<NamedParameter> parameters = task.Parameters();
  const Places places = FindPlaces(task, parameters);
  if (trainer.layer_decay() != 0 && places.layers == 0) {
    errors.Add("trainer.layer_decay", "the model says of none of its modules that it is a layer");
  }

  const std::vector<std::string> classifier_names = task.ClassifierNames();
  const std::set<std::string> classifiers(classifier_names.begin(), classifier_names.end());
  std::vector<TrainedParameter> trained;
  std::vector<std::string> names;
  std::vector<at::Tensor> frozen;
  std::vector<int> matched(trainer.parameter_groups_size()), taken(trainer.parameter_groups_size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const NamedParameter& parameter = parameters[i];
    if (!parameter.trainable) continue;
    names.push_back(parameter.name);
    ParameterGroup group;
    bool found = false;
    for (int g = 0; g < trainer.parameter_groups_size(); ++g) {
      const ParameterGroup& candidate = trainer.parameter_groups(g);
      if (fnmatch(candidate.pattern().c_str(), parameter.name.c_str(), 0) != 0) continue;
      ++matched[g];
      if (std::exchange(found, true)) continue;
      ++taken[g];
      group = candidate;
    }
    if (group.frozen()) {
      frozen.push_back(parameter.tensor);
      continue;
    }
    TrainedParameter& added = trained.emplace_back();
    added.name = parameter.name;
    added.tensor = parameter.tensor;
    added.role = FindRole(parameter, places.places[i], places.layers, classifiers);
    if (trainer.layer_decay() != 0) {
      added.learning_rate_scale = std::pow(trainer.layer_decay(), places.layers + 1 - places.places[i]);
    }
    if (group.has_learning_rate()) added.learning_rate_scale *= group.learning_rate();
    added.weight_decay_scale = !parameter.decay ? 0 : group.has_weight_decay() ? group.weight_decay() : 1;
  }

  for (int g = 0; g < trainer.parameter_groups_size(); ++g) {
    const std::string& pattern = trainer.parameter_groups(g).pattern();
    if (pattern.empty() || taken[g] > 0) continue;
    errors.Add(GroupPath(g, "pattern"),
               matched[g] > 0
                   ? absl::StrCat("'", pattern, "' comes too late: the groups before it have all ", matched[g],
                                  " parameters that it matches")
                   : absl::StrCat("no trained parameter is called '", pattern, "'; there are ",
                                  absl::StrJoin(Overview(names), ", "), DidYouMean(pattern, PossiblePatterns(names))));
  }
  if (trained.empty() && !names.empty()) {
    errors.Add("trainer.parameter_groups", "freeze all parameters; nothing is left to train");
  }
  if (!errors.empty()) return errors.ToStatus();
  for (at::Tensor& tensor : frozen) tensor.set_requires_grad(false);
  return trained;
}

}  // namespace graticule
