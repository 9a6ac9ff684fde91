// Which files a pattern of shards means.
#ifndef GRATICULE_DATA_DATASETS_WEB_DATASET_SHARD_PATHS_H_
#define GRATICULE_DATA_DATASETS_WEB_DATASET_SHARD_PATHS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace graticule {

// The paths of a pattern: braces make one path of each number of a range (`{000..146}`, as wide as the ends if these
// are equally wide) or of each part of a list (`{a,b}`), in their order; then wildcards (`*`, `?`, `[a-z]`) find the
// files that are there, sorted byte by byte, and must find one. What has no wildcards need not be there.
absl::StatusOr<std::vector<std::string>> ExpandShardPattern(const std::string& pattern);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_WEB_DATASET_SHARD_PATHS_H_
