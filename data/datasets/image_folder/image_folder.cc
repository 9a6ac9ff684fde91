#include "data/datasets/image_folder/image_folder.h"

#include <string>

#include "data/datasets/files.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Dataset>> OpenImageFolder(const ImageFolder& config, const DatasetContext& context) {
  if (config.path().empty()) return PathIsRequired("the folder that holds the splits");
  const std::string train = InFolder(config.path(), config.train().empty() ? "train" : config.train());
  const std::string val = InFolder(config.path(), config.val().empty() ? "val" : config.val());
  const bool is_train = context.split == Split::kTrain;
  const bool listed = !config.classes().empty();
  const absl::StatusOr<Classes> classes = listed ? Classes::OfList(InFolder(config.path(), config.classes()))
                                                 : Classes::OfFolders(train, [](const std::string&) { return true; });
  if (!classes.ok()) return FieldStatus(listed ? "classes" : "path", classes.status());
  ImageFiles files{.class_names = classes->names()};
  const absl::Status status = classes->AddFolders(is_train ? train : val, is_train, files);
  if (!status.ok()) return FieldStatus("path", status);
  return std::make_unique<ImageFilesDataset>(std::move(files));
}

namespace {
const Registration<Dataset, ImageFolder> kRegistration("Image files, one folder a class, with train and val",
                                                       R"(path: "images")", &OpenImageFolder);
}  // namespace

}  // namespace graticule
