// A tree of image files, one folder a class.
#ifndef GRATICULE_DATA_DATASETS_IMAGE_FOLDER_IMAGE_FOLDER_H_
#define GRATICULE_DATA_DATASETS_IMAGE_FOLDER_IMAGE_FOLDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/image_folder/image_folder.pb.h"

namespace graticule {

// Samples are ordered by class, then by path, byte by byte. Folders within a class are searched too, links are
// followed, hidden files and folders (".name") and files that are not called .jpg, .jpeg or .png (in any case) are
// passed over.
class ImageFolderDataset : public Dataset {
 public:
  static absl::StatusOr<std::unique_ptr<Dataset>> Create(const ImageFolder& config, const DatasetContext& context);

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  absl::StatusOr<Sample> Read(int64_t index) const override;
  std::string SampleName(int64_t index) const override { return files_[index].path; }
  const std::vector<std::string>& class_names() const override { return class_names_; }

 private:
  struct File {
    std::string path;
    int64_t label;
  };

  ImageFolderDataset(std::vector<std::string> class_names, std::vector<File> files)
      : class_names_(std::move(class_names)), files_(std::move(files)) {}

  // The images of the folder `split`, by the classes of the folder `train`.
  static absl::StatusOr<std::unique_ptr<Dataset>> Open(const std::string& train, const std::string& split);

  std::vector<std::string> class_names_;
  std::vector<File> files_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_IMAGE_FOLDER_IMAGE_FOLDER_H_
