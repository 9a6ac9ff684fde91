// A tree of image files, one folder a class.
#ifndef GRATICULE_DATA_DATASETS_IMAGE_FOLDER_IMAGE_FOLDER_H_
#define GRATICULE_DATA_DATASETS_IMAGE_FOLDER_IMAGE_FOLDER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/image_folder/image_folder.pb.h"

namespace graticule {

// Samples are ordered by class, then by path, byte by byte. Folders within a class are searched too, links are
// followed, hidden files and folders (".name") and files that are not called .jpg, .jpeg, .png or .webp (in any case)
// are passed over.
absl::StatusOr<std::unique_ptr<Dataset>> OpenImageFolder(const ImageFolder& config, const DatasetContext& context);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_IMAGE_FOLDER_IMAGE_FOLDER_H_
