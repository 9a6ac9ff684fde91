#include "data/datasets/caltech256/caltech256.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "data/datasets/files.h"
#include "data/decode/decode.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr char kArchive[] = "256_ObjectCategories";
constexpr char kClutter[] = "257.clutter";
constexpr int64_t kTrainPerClass = 60;

// "001.ak47".
bool IsClassFolder(const std::string& name) {
  return name.size() > 4 && name[3] == '.' && std::all_of(name.begin(), name.begin() + 3, absl::ascii_isdigit);
}

// How many of a class's images are for training; an error where none is left for either split.
absl::StatusOr<int64_t> TrainCount(const Caltech256& config, int64_t images) {
  const int64_t count = config.train_share() > 0 ? std::llround(config.train_share() * static_cast<double>(images))
                        : config.train_per_class() > 0 ? config.train_per_class()
                                                       : kTrainPerClass;
  if (count > 0 && count < images) return count;
  return absl::InvalidArgumentError(absl::StrCat("has ", images, images == 1 ? " image" : " images", ", of which ",
                                                 count,
                                                 " would be for training: one or more must be left for each split"));
}

absl::StatusOr<ImageFiles> Open(const Caltech256& config, Split split) {
  std::string root = JoinPaths(config.path(), kArchive);
  if (!Exists(root)) root = config.path();
  ASSIGN_OR_RETURN(const FolderNames top, ListFolder(root));
  ImageFiles files;
  for (const std::string& name : top.files) {
    files.passed_over.push_back(absl::StrCat(JoinPaths(root, name), ": not in a class folder"));
  }
  for (const std::string& name : top.folders) {
    const std::string folder = JoinPaths(root, name);
    if (!IsClassFolder(name)) {
      files.passed_over.push_back(absl::StrCat(folder, ": not called like a class, such as 001.ak47"));
      continue;
    }
    if (name == kClutter && !config.clutter()) continue;
    ASSIGN_OR_RETURN(FolderNames names, ListFolder(folder));
    for (const std::string& inner : names.folders) {
      files.passed_over.push_back(absl::StrCat(JoinPaths(folder, inner), ": a folder within a class"));
    }
    std::erase_if(names.files, [&](const std::string& file) {
      if (HasImageExtension(file)) return false;
      files.passed_over.push_back(absl::StrCat(JoinPaths(folder, file), ": not called an image"));
      return true;
    });
    const int64_t images = static_cast<int64_t>(names.files.size());
    ASSIGN_OR_RETURN(const int64_t train_count, TrainCount(config, images), folder);
    const int64_t label = static_cast<int64_t>(files.class_names.size());
    files.class_names.push_back(name.substr(4));
    const std::vector<bool> is_train = DrawFiles(images, train_count, config.seed(), label);
    for (int64_t i = 0; i < images; ++i) {
      if (is_train[i] == (split == Split::kTrain)) files.files.push_back({JoinPaths(folder, names.files[i]), label});
    }
  }
  if (files.files.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no class folders, such as 001.ak47, in ", root));
  }
  std::vector<std::string> sorted = files.class_names;
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end()) {
    return absl::InvalidArgumentError(absl::StrCat("two folders of the class '", *twice, "' in ", root));
  }
  return files;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenCaltech256(const Caltech256& config, const DatasetContext& context) {
  FieldErrors errors;
  if (config.path().empty()) errors.Add("path", absl::StrCat("is required: the folder that holds ", kArchive));
  if (config.train_per_class() < 0) {
    errors.Add("train_per_class", absl::StrCat("must not be negative, found ", config.train_per_class()));
  }
  if (const double share = config.train_share(); !(share >= 0 && share < 1)) {
    errors.Add("train_share", absl::StrCat("must be over 0 and under 1, found ", share));
  }
  if (config.train_per_class() != 0 && config.train_share() != 0) {
    errors.Add("train_share", "is given beside train_per_class: one of them says how much is for training");
  }
  if (!errors.empty()) return errors.ToStatus();
  absl::StatusOr<ImageFiles> files = Open(config, context.split);
  if (!files.ok()) return FieldStatus("path", files.status());
  return std::make_unique<ImageFilesDataset>(*std::move(files));
}

namespace {
const Registration<Dataset, Caltech256> kRegistration(
    "Caltech-256, split at random: 60 training images of each class, or as many as are wanted",
    R"(path: "images/caltech256" train_per_class: 2)", &OpenCaltech256);
}  // namespace

}  // namespace graticule
