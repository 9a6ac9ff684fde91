// Reads what ImageNet's development kit says of its classes.
#ifndef GRATICULE_DATA_DATASETS_IMAGENET_META_MAT_H_
#define GRATICULE_DATA_DATASETS_IMAGENET_META_MAT_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace graticule {

// WNIDs by ILSVRC2012_ID.
using WnidsById = std::map<int64_t, std::string>;

// From the bytes of the development kit's meta.mat: of a MATLAB 5 file, the first struct array
// that has both as fields. Anything else is InvalidArgument or DataLoss.
// Format: "MAT-File Format", MathWorks, version 5 ("Level 5 MAT-Files").
absl::StatusOr<WnidsById> ParseMetaMat(std::string_view bytes);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_IMAGENET_META_MAT_H_
