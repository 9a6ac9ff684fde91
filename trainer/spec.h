// Reads experiments: textproto files with inheritance and overrides, every mistake found at once, each with its place.
#ifndef GRATICULE_TRAINER_SPEC_H_
#define GRATICULE_TRAINER_SPEC_H_

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/experiment.pb.h"
#include "trainer/text_tree.h"

namespace graticule {

// A spec as read, and where each of its fields was set.
class Spec {
 public:
  // Reads `path` with its bases, applies the overrides ("backbone.depth=6", "objectives[0].weight=1",
  // "pooling=[type.googleapis.com/graticule.Mpvg] {}"), and checks field names, types, enums and plugin types. All
  // mistakes come in one status (FieldErrors-free): its message has a line for each, "file:line:col: path: what".
  static absl::StatusOr<Spec> Load(const std::string& path, const std::vector<std::string>& overrides = {});

  // As Load, but goes on where mistakes were found: `spec` is what could be read, `errors` the formatted mistakes, so
  // that checks of meaning can add theirs and the user sees all of them together.
  struct Partial;
  static Partial LoadPartially(const std::string& path, const std::vector<std::string>& overrides = {});

  // Without `base`, which is resolved; its name is the file's unless the spec gives one.
  const Experiment& experiment() const { return experiment_; }
  Experiment& experiment() { return experiment_; }
  const std::string& path() const { return path_; }

  // "file:line:col: path: message" for each FieldError that the status carries, at the nearest place that is known:
  // that of the field, of the enclosing field, or of the file. Nothing is said of fields, and of what is inside of
  // them, that already have an error among LoadPartially's: an epoch count of "six" is not reported as being zero too;
  // nor of fields that nothing sets where a file could not be read.
  std::vector<std::string> Locate(const absl::Status& status, std::string_view prefix = "") const;

 private:
  friend class SpecReader;

  std::string path_;
  Experiment experiment_;
  std::map<std::string, Place> places_;  // by field path, "backbone.patch_size"
  std::set<std::string> failed_;         // field paths that have an error
  bool is_whole_ = true;                 // whether every file could be read
};

struct Spec::Partial {
  Spec spec;
  std::vector<std::string> errors;
};

// Text format of the experiment with plugins expanded, as written into a run directory; Spec::Load reads it.
std::string PrintExperiment(const Experiment& experiment);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SPEC_H_
