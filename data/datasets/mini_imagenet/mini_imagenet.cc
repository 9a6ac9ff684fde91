#include "data/datasets/mini_imagenet/mini_imagenet.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "data/datasets/files.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr int64_t kValPerClass = 100;
constexpr std::array<const char*, 3> kParts = {"train", "val", "test"};

// Paths of images by class.
using Part = std::map<std::string, std::vector<std::string>>;
// Those of train, val and test.
using Parts = std::array<Part, kParts.size()>;

std::string CsvPath(const std::string& path, const char* part) { return JoinPaths(path, absl::StrCat(part, ".csv")); }

// Where the columns filename and label stand in a CSV file.
struct Columns {
  size_t count = 0, filename = 0, label = 0;
};

// The fields of a line of a CSV file, without the quotes that may stand around one.
std::vector<std::string> Fields(const Line& line) {
  std::vector<std::string> fields = absl::StrSplit(line.text, ',');
  for (std::string& field : fields) {
    if (field.size() >= 2 && field.front() == '"' && field.back() == '"') field = field.substr(1, field.size() - 2);
  }
  return fields;
}

absl::StatusOr<Columns> ReadHeader(const Line& line) {
  const std::vector<std::string> names = Fields(line);
  const auto place = [&](const char* name) -> size_t {
    return std::find(names.begin(), names.end(), name) - names.begin();
  };
  const Columns columns{names.size(), place("filename"), place("label")};
  if (columns.filename < columns.count && columns.label < columns.count) return columns;
  return ErrorAt(line.where, absl::StrCat("must name the columns filename and label, found '", line.text, "'"));
}

absl::StatusOr<Parts> ReadCsvFiles(const std::string& path, std::vector<std::string>& passed_over) {
  const std::string images = JoinPaths(path, "images");
  ASSIGN_OR_RETURN(const FolderNames in_images, ListFolder(images));
  std::vector<ListedName> names;
  std::vector<std::pair<Part*, std::string>> places;  // of each name: its part and its class
  Parts parts;
  for (size_t part = 0; part < kParts.size(); ++part) {
    ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(CsvPath(path, kParts[part])));
    ASSIGN_OR_RETURN(const Columns columns, ReadHeader(lines[0]));
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::vector<std::string> fields = Fields(lines[i]);
      if (fields.size() != columns.count || fields[columns.filename].empty() || fields[columns.label].empty()) {
        return ErrorAt(lines[i].where, absl::StrCat("must be ", lines[0].text, ", found '", lines[i].text, "'"));
      }
      const std::string& label = fields[columns.label];
      const std::string& file = fields[columns.filename];
      names.push_back({lines[i].where, in_images.folders.empty() ? file : JoinPaths(label, file)});
      places.emplace_back(&parts[part], label);
    }
  }
  ASSIGN_OR_RETURN(std::vector<std::string> paths, FindListed(names, images, passed_over));
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto& [part, label] = places[i];
    (*part)[label].push_back(std::move(paths[i]));
  }
  return parts;
}

absl::StatusOr<Part> ReadFolders(const std::string& folder, std::vector<std::string>& passed_over) {
  ASSIGN_OR_RETURN(const Classes classes, Classes::OfFolders(folder, IsWnid));
  ImageFiles files;
  RETURN_IF_ERROR(classes.AddFolders(folder, true, files));
  passed_over.insert(passed_over.end(), files.passed_over.begin(), files.passed_over.end());
  Part part;
  for (ImageFile& file : files.files) part[classes.names()[file.label]].push_back(std::move(file.path));
  return part;
}

// Without few-shot parts, all images are in the first one.
absl::StatusOr<Parts> ReadParts(const std::string& path, bool few_shot, std::vector<std::string>& passed_over) {
  const auto is_csv = [&](const char* part) { return Exists(CsvPath(path, part)); };
  if (std::any_of(kParts.begin(), kParts.end(), is_csv)) return ReadCsvFiles(path, passed_over);
  Parts parts;
  const auto is_folder = [&](const char* part) { return IsFolder(JoinPaths(path, part)); };
  if (std::all_of(kParts.begin(), kParts.end(), is_folder)) {
    for (size_t part = 0; part < kParts.size(); ++part) {
      ASSIGN_OR_RETURN(parts[part], ReadFolders(JoinPaths(path, kParts[part]), passed_over));
    }
    return parts;
  }
  if (few_shot) {
    return absl::NotFoundError(absl::StrCat("the few-shot splits need ", absl::StrJoin(kParts, ".csv, "),
                                            ".csv or folders of these names in ", path));
  }
  const std::string images = JoinPaths(path, "images");
  ASSIGN_OR_RETURN(parts[0], ReadFolders(IsFolder(images) ? images : path, passed_over));
  return parts;
}

absl::StatusOr<ImageFiles> Open(const MiniImagenet& config, Split split) {
  const bool is_train = split == Split::kTrain;
  const bool few_shot = config.split() != MiniImagenet::ALL_CLASSES;
  ImageFiles files;
  ASSIGN_OR_RETURN(const Parts parts, ReadParts(config.path(), few_shot, files.passed_over));
  Part all;
  for (const Part& part : parts) {
    for (const auto& [name, images] : part) all[name].insert(all[name].end(), images.begin(), images.end());
  }
  const Part& few_shot_part = is_train ? parts[0] : config.split() == MiniImagenet::FEW_SHOT_VAL ? parts[1] : parts[2];
  const int64_t val_per_class = config.val_per_class() == 0 ? kValPerClass : config.val_per_class();
  for (auto& [name, images] : all) {
    const int64_t label = static_cast<int64_t>(files.class_names.size());
    files.class_names.push_back(name);
    if (few_shot) {
      const auto found = few_shot_part.find(name);
      if (found == few_shot_part.end()) continue;
      images = found->second;
    }
    std::sort(images.begin(), images.end());
    const int64_t count = static_cast<int64_t>(images.size());
    if (!few_shot && count <= val_per_class) {
      return absl::InvalidArgumentError(absl::StrCat("class ", name, " has ", count, " images, too few to hold out ",
                                                     val_per_class, " for validation"));
    }
    const std::vector<bool> is_val =
        few_shot ? std::vector<bool>(count, !is_train) : DrawFiles(count, val_per_class, config.seed(), label);
    for (int64_t i = 0; i < count; ++i) {
      if (is_val[i] != is_train) files.files.push_back({std::move(images[i]), label});
    }
  }
  if (files.files.empty())
    return absl::InvalidArgumentError(absl::StrCat("no images for this split in ", config.path()));
  return files;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenMiniImagenet(const MiniImagenet& config, const DatasetContext& context) {
  FieldErrors errors;
  if (config.path().empty()) {
    errors.Add("path", "is required: the folder that holds the CSV files and images, or the class folders");
  }
  if (!MiniImagenet::Split_IsValid(config.split())) {
    errors.Add("split", absl::StrCat("must be ALL_CLASSES, FEW_SHOT_VAL or FEW_SHOT_TEST, found ", config.split()));
  }
  if (config.val_per_class() < 0) {
    errors.Add("val_per_class", absl::StrCat("must not be negative, found ", config.val_per_class()));
  }
  if (!errors.empty()) return errors.ToStatus();
  absl::StatusOr<ImageFiles> files = Open(config, context.split);
  if (!files.ok()) return FieldStatus("path", files.status());
  return std::make_unique<ImageFilesDataset>(*std::move(files));
}

namespace {
const Registration<Dataset, MiniImagenet> kRegistration(
    "Mini-ImageNet: 100 classes in 50,000 + 10,000 images, or the few-shot splits of the CSV files",
    R"(path: "images/mini_imagenet" val_per_class: 1)", &OpenMiniImagenet);
}  // namespace

}  // namespace graticule
