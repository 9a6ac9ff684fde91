// Tiny ImageNet (Stanford's CS231n) in its own layout.
#ifndef GRATICULE_DATA_DATASETS_TINY_IMAGENET_TINY_IMAGENET_H_
#define GRATICULE_DATA_DATASETS_TINY_IMAGENET_TINY_IMAGENET_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/tiny_imagenet/tiny_imagenet.pb.h"

namespace graticule {

// Training samples are ordered by WNID, then by path, those of validation as val_annotations.txt names them.
absl::StatusOr<std::unique_ptr<Dataset>> OpenTinyImagenet(const TinyImagenet& config, const DatasetContext& context);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_TINY_IMAGENET_TINY_IMAGENET_H_
