// Mini-ImageNet (Vinyals et al. 2016), split as for training from scratch or as for few-shot learning.
#ifndef GRATICULE_DATA_DATASETS_MINI_IMAGENET_MINI_IMAGENET_H_
#define GRATICULE_DATA_DATASETS_MINI_IMAGENET_MINI_IMAGENET_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/mini_imagenet/mini_imagenet.pb.h"

namespace graticule {

// Samples are ordered by class, then by path.
absl::StatusOr<std::unique_ptr<Dataset>> OpenMiniImagenet(const MiniImagenet& config, const DatasetContext& context);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_MINI_IMAGENET_MINI_IMAGENET_H_
