// ImageNet-1K (Russakovsky et al. 2015) in the layout that it is published in.
#ifndef GRATICULE_DATA_DATASETS_IMAGENET_IMAGENET_H_
#define GRATICULE_DATA_DATASETS_IMAGENET_IMAGENET_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/imagenet/imagenet.pb.h"

namespace graticule {

// Training samples are ordered by WNID, then by path; those of a flat validation folder by path, or as the list names
// them. Only folders that are called like a WNID are classes.
absl::StatusOr<std::unique_ptr<Dataset>> OpenImagenet(const Imagenet& config, const DatasetContext& context);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_IMAGENET_IMAGENET_H_
