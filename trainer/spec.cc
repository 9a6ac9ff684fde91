#include "trainer/spec.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/text_format.h"
#include "plugin/file.h"
#include "plugin/status.h"
#include "trainer/experiment.pb.h"
#include "trainer/text_apply.h"
#include "trainer/text_tree.h"

namespace graticule {

namespace fs = std::filesystem;

namespace {

// "a.b[2].c" -> "a.b[2]" -> "a.b" -> "a" -> "".
std::string Enclosing(const std::string& path) {
  const size_t end = path.find_last_of(".[");
  return end == std::string::npos ? "" : path.substr(0, end);
}

}  // namespace

class SpecReader {
 public:
  static Spec::Partial Read(const std::string& path, const std::vector<std::string>& overrides) {
    SpecReader reader;
    reader.ReadWithBases(path, Place());
    for (const std::string& override : overrides) reader.Override(override);
    if (reader.experiment_.name().empty()) reader.experiment_.set_name(fs::path(path).stem().string());

    Spec::Partial partial;
    partial.errors = reader.FormatErrors();
    partial.spec.path_ = path;
    partial.spec.experiment_ = std::move(reader.experiment_);
    partial.spec.places_ = reader.applier_.places();
    partial.spec.failed_ = reader.applier_.failed();
    partial.spec.is_whole_ = reader.is_whole_;
    return partial;
  }

 private:
  // `named_at` is the place of the `base` that leads here, without a file for the spec itself.
  void ReadWithBases(const std::string& path, const Place& named_at) {
    const std::string field = named_at.file.empty() ? "" : "base";
    const auto is_same = [&](const std::string& other) {
      std::error_code error;
      return fs::equivalent(other, path, error);
    };
    if (const auto start = std::find_if(open_.begin(), open_.end(), is_same); start != open_.end()) {
      std::vector<std::string> cycle(start, open_.end());
      cycle.push_back(path);
      is_whole_ = false;
      applier_.AddError(named_at, field, absl::StrCat("a spec inherits from itself: ", absl::StrJoin(cycle, " -> ")));
      return;
    }
    const absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok()) {
      is_whole_ = false;
      applier_.AddError(named_at, field, std::string(text.status().message()));
      return;
    }
    open_.push_back(path);
    order_.emplace(path, order_.size());

    std::vector<TextError> errors;
    std::vector<TextField> bases, fields;
    for (TextField& read : ParseText({path, 1, 1}, *text, &errors)) {
      (read.name == "base" && !read.is_type ? bases : fields).push_back(std::move(read));
    }
    for (const TextError& error : errors) applier_.AddError(error.place, "", error.message);
    Experiment own;
    applier_.Apply(bases, &own);
    const std::map<std::string, Place> places = applier_.places();
    for (int i = 0; i < own.base_size(); ++i) {
      ReadWithBases((fs::path(path).parent_path() / own.base(i)).lexically_normal().string(),
                    places.at(absl::StrCat("base[", i, "]")));
    }
    applier_.Apply(fields, &experiment_);
    open_.pop_back();
  }

  void Override(const std::string& text) {
    if (absl::StartsWith(text, "base=") || absl::StartsWith(text, "base[") || absl::StartsWith(text, "base.")) {
      applier_.AddError({absl::StrCat("--set ", text)}, "base", "only a file says what it inherits from");
      return;
    }
    applier_.ApplyOverride(text, &experiment_);
  }

  // Each once, by file, line and column; those of overrides come last.
  std::vector<std::string> FormatErrors() {
    const auto rank = [&](const SpecError& error) {
      const auto file = order_.find(error.place.file);
      const bool is_file = file != order_.end();
      return is_file ? std::tuple(file->second, error.place.line, error.place.column) : std::tuple(order_.size(), 0, 0);
    };
    std::vector<SpecError>& errors = applier_.errors();
    std::stable_sort(errors.begin(), errors.end(),
                     [&](const SpecError& a, const SpecError& b) { return rank(a) < rank(b); });
    std::vector<std::string> lines;
    for (const SpecError& error : errors) {
      const std::string line = error.ToString();
      // A base that two specs share is read twice.
      if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
    }
    return lines;
  }

  TextApplier applier_;
  Experiment experiment_;
  std::vector<std::string> open_;        // the files that are being read, each the base of the one before
  std::map<std::string, size_t> order_;  // of the files, as first read
  bool is_whole_ = true;
};

absl::StatusOr<Spec> Spec::Load(const std::string& path, const std::vector<std::string>& overrides) {
  Partial partial = LoadPartially(path, overrides);
  if (!partial.errors.empty()) return absl::InvalidArgumentError(absl::StrJoin(partial.errors, "\n"));
  return std::move(partial.spec);
}

Spec::Partial Spec::LoadPartially(const std::string& path, const std::vector<std::string>& overrides) {
  return SpecReader::Read(path, overrides);
}

std::vector<std::string> Spec::Locate(const absl::Status& status, std::string_view prefix) const {
  std::vector<std::string> lines;
  for (const FieldError& error : FieldErrors::FromStatus(status)) {
    const std::string path = JoinPath(prefix, error.path);
    Place place = {path_};
    bool has_failed = false, is_placed = false;
    for (std::string at = path; !at.empty(); at = Enclosing(at)) {
      has_failed |= failed_.contains(at);
      const auto found = places_.find(at);
      if (!is_placed && found != places_.end()) {
        place = found->second;
        is_placed = true;
      }
    }
    if (!has_failed && (is_whole_ || places_.contains(path)))
      lines.push_back(SpecError{place, path, error.message}.ToString());
  }
  return lines;
}

std::string PrintExperiment(const Experiment& experiment) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetExpandAny(true);
  printer.SetUseShortRepeatedPrimitives(true);
  printer.SetUseUtf8StringEscaping(true);
  std::string text;
  printer.PrintToString(experiment, &text);
  return text;
}

}  // namespace graticule
