#include "data/datasets/imagenet/imagenet.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/datasets/files.h"
#include "data/datasets/imagenet/meta_mat.h"
#include "data/decode/decode.h"
#include "plugin/file.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr char kGroundTruth[] = "ILSVRC2012_validation_ground_truth.txt";
constexpr char kKaggleHeader[] = "ImageId,PredictionString";
constexpr const char* kUsualLabels[] = {"imagenet_2012_validation_synset_labels.txt", "val.txt", "LOC_val_solution.csv",
                                        "ILSVRC2012_devkit_t12"};

// Labels of a flat folder: of named files, or of all files in the order of their names.
struct Labels {
  std::vector<ListedName> names;
  std::vector<int64_t> labels;
};

absl::StatusOr<int64_t> ParseLabel(const std::string& text, const Classes& classes, const std::string& where) {
  int64_t label = 0;
  if (!absl::SimpleAtoi(text, &label)) return classes.Label(text, where);
  const int64_t count = static_cast<int64_t>(classes.names().size());
  if (label >= 0 && label < count) return label;
  return ErrorAt(where, absl::StrCat("label ", label, " is not in 0 … ", count - 1,
                                     ", the places of the classes in order; the development kit's numbers need its "
                                     "folder as val_labels"));
}

// `data` is the folder in the development kit that holds the ground truth.
absl::StatusOr<Labels> ReadDevelopmentKit(const std::string& data, const Classes& classes) {
  const std::string meta = JoinPaths(data, "meta.mat");
  ASSIGN_OR_RETURN(const std::string bytes, ReadRegularFile(meta));
  ASSIGN_OR_RETURN(const WnidsById wnids, ParseMetaMat(bytes), meta);
  ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(JoinPaths(data, kGroundTruth)));
  Labels labels;
  for (const Line& line : lines) {
    int64_t id = 0;
    if (!absl::SimpleAtoi(line.text, &id) || !wnids.contains(id)) {
      return ErrorAt(line.where, absl::StrCat("'", line.text, "' is no ILSVRC2012_ID of ", meta));
    }
    ASSIGN_OR_RETURN(const int64_t label, classes.Label(wnids.at(id), line.where));
    labels.labels.push_back(label);
  }
  return labels;
}

absl::StatusOr<Labels> ReadLabels(const std::string& path, const Classes& classes) {
  if (IsFolder(path)) return ReadDevelopmentKit(JoinPaths(path, "data"), classes);
  if (path.ends_with(absl::StrCat("/", kGroundTruth))) {
    return ReadDevelopmentKit(path.substr(0, path.rfind('/')), classes);
  }
  ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(path));
  Labels labels;
  const bool kaggle = lines[0].text == kKaggleHeader;
  const bool named = kaggle || lines[0].text.find_first_of(" \t") != std::string::npos;
  for (size_t i = kaggle ? 1 : 0; i < lines.size(); ++i) {
    const auto& [where, text] = lines[i];
    std::string label = text;
    if (named) {
      const size_t separator = kaggle ? text.find(',') : text.find_last_of(" \t");
      if (separator == std::string::npos) {
        return ErrorAt(where,
                       absl::StrCat("must be ", kaggle ? kKaggleHeader : "FILENAME LABEL", ", found '", text, "'"));
      }
      std::string name(absl::StripTrailingAsciiWhitespace(text.substr(0, separator)));
      if (kaggle) name += ".JPEG";
      labels.names.push_back({where, std::move(name)});
      label = text.substr(separator + 1);
      // The first of the boxes: WNID x y x y. All are of the image's class.
      if (kaggle) label.resize(std::min(label.find(' '), label.size()));
    }
    ASSIGN_OR_RETURN(const int64_t parsed, ParseLabel(label, classes, where));
    labels.labels.push_back(parsed);
  }
  if (labels.labels.empty()) return ErrorAt(path, "has no labels");
  return labels;
}

absl::Status AddFlatValidation(const std::string& val, const std::string& list, const Classes& classes,
                               ImageFiles& files) {
  ASSIGN_OR_RETURN(const Labels labels, ReadLabels(list, classes));
  std::vector<std::string> images;
  if (labels.names.empty()) {
    ASSIGN_OR_RETURN(images, ListImages(val, files.passed_over));
    if (images.size() != labels.labels.size()) {
      return ErrorAt(list, absl::StrCat("has ", labels.labels.size(), " labels for the ", images.size(), " images in ",
                                        val, ": it must have one for each, in the order of their names"));
    }
  } else {
    ASSIGN_OR_RETURN(images, FindListed(labels.names, val, files.passed_over));
  }
  for (size_t i = 0; i < images.size(); ++i) files.files.push_back({std::move(images[i]), labels.labels[i]});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenImagenet(const Imagenet& config, const DatasetContext& context) {
  if (config.path().empty()) return PathIsRequired("the folder that holds the splits");
  const std::string& path = config.path();
  const std::string train = InFolder(path, config.train().empty() ? "train" : config.train());
  const std::string val = InFolder(path, config.val().empty() ? "val" : config.val());
  const bool listed = !config.classes().empty();
  const absl::StatusOr<Classes> classes =
      listed ? Classes::OfList(InFolder(path, config.classes())) : Classes::OfFolders(train, IsWnid);
  if (!classes.ok()) return FieldStatus(listed ? "classes" : "path", classes.status());
  ImageFiles files{.class_names = classes->names()};
  if (context.split == Split::kTrain) {
    const absl::Status status = classes->AddFolders(train, true, files);
    if (!status.ok()) return FieldStatus("path", status);
    return std::make_unique<ImageFilesDataset>(std::move(files));
  }

  const absl::StatusOr<FolderNames> names = ListFolder(val);
  if (!names.ok()) return FieldStatus("path", names.status());
  if (!names->folders.empty()) {
    std::vector<std::string> flat = names->files;
    std::erase_if(flat, [](const std::string& name) { return !HasImageExtension(name); });
    // Half of the images moved into folders: neither those nor these are the split.
    const absl::Status status =
        flat.empty() ? classes->AddFolders(val, false, files)
                     : ErrorAt(val, absl::StrCat("has both folders and images beside them: ", FirstFew(flat)));
    if (!status.ok()) return FieldStatus("path", status);
    return std::make_unique<ImageFilesDataset>(std::move(files));
  }
  std::string list = config.val_labels();
  for (const char* usual : kUsualLabels) {
    if (list.empty() && Exists(JoinPaths(path, usual))) list = usual;
  }
  if (list.empty()) {
    return FieldStatus(
        "val_labels", absl::NotFoundError(absl::StrCat("no labels for the images in ", val, ": ", path, " has none of ",
                                                       absl::StrJoin(kUsualLabels, ", "))));
  }
  const absl::Status status = AddFlatValidation(val, InFolder(path, list), *classes, files);
  if (!status.ok()) return FieldStatus("val_labels", status);
  return std::make_unique<ImageFilesDataset>(std::move(files));
}

namespace {
const Registration<Dataset, Imagenet> kRegistration("ImageNet-1K in its own layout, with a flat validation folder",
                                                    R"(path: "images/imagenet")", &OpenImagenet);
}  // namespace

}  // namespace graticule
