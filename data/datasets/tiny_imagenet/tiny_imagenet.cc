#include "data/datasets/tiny_imagenet/tiny_imagenet.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/datasets/files.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

absl::Status AddAnnotated(const std::string& val, const Classes& classes, ImageFiles& files) {
  ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(JoinPaths(val, "val_annotations.txt")));
  std::vector<ListedName> names;
  std::vector<int64_t> labels;
  for (const Line& line : lines) {
    // The file, its WNID and the corners of a box.
    const std::vector<std::string> columns = absl::StrSplit(line.text, '\t');
    if (columns.size() != 6) {
      return ErrorAt(line.where, absl::StrCat("must be a file, a WNID and four numbers, separated by tabs; found ",
                                              columns.size(), columns.size() == 1 ? " column" : " columns"));
    }
    names.push_back({line.where, columns[0]});
    ASSIGN_OR_RETURN(const int64_t label, classes.Label(columns[1], line.where));
    labels.push_back(label);
  }
  ASSIGN_OR_RETURN(std::vector<std::string> images, FindListed(names, JoinPaths(val, "images"), files.passed_over));
  for (size_t i = 0; i < images.size(); ++i) files.files.push_back({std::move(images[i]), labels[i]});
  return absl::OkStatus();
}

absl::StatusOr<ImageFiles> Open(const std::string& path, Split split) {
  const std::string train = JoinPaths(path, "train");
  ASSIGN_OR_RETURN(const Classes classes, Classes::OfFolders(train, IsWnid));
  ImageFiles files{.class_names = classes.names()};
  if (split == Split::kVal) {
    RETURN_IF_ERROR(AddAnnotated(JoinPaths(path, "val"), classes, files));
    return files;
  }
  RETURN_IF_ERROR(classes.AddFolders(train, true, files));
  // Boxes of the objects, which stand in each class's folder.
  std::erase_if(files.passed_over, [](const std::string& text) { return text.find("_boxes.txt: ") != text.npos; });
  return files;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenTinyImagenet(const TinyImagenet& config, const DatasetContext& context) {
  if (config.path().empty()) return PathIsRequired("the folder that holds train and val");
  absl::StatusOr<ImageFiles> files = Open(config.path(), context.split);
  if (!files.ok()) return FieldStatus("path", files.status());
  return std::make_unique<ImageFilesDataset>(*std::move(files));
}

namespace {
const Registration<Dataset, TinyImagenet> kRegistration("Tiny ImageNet: 200 classes of 64×64 images, in its own layout",
                                                        R"(path: "images/tiny_imagenet")", &OpenTinyImagenet);
}  // namespace

}  // namespace graticule
