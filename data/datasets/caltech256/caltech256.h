// Caltech-256 (Griffin, Holub, Perona 2007), split at random.
#ifndef GRATICULE_DATA_DATASETS_CALTECH256_CALTECH256_H_
#define GRATICULE_DATA_DATASETS_CALTECH256_CALTECH256_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/datasets/caltech256/caltech256.pb.h"
#include "data/datasets/dataset.h"

namespace graticule {

// Samples are ordered by class, then by path. Folders within a class's folder are passed over: the published archive
// has some, of other files.
absl::StatusOr<std::unique_ptr<Dataset>> OpenCaltech256(const Caltech256& config, const DatasetContext& context);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_CALTECH256_CALTECH256_H_
