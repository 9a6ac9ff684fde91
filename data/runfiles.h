// Finds the files that Bazel lays beside a program.
#ifndef GRATICULE_DATA_RUNFILES_H_
#define GRATICULE_DATA_RUNFILES_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace graticule {

// Path on disk of the runfile REPOSITORY/PATH, for example "digits/digits.csv". Works under `bazel test` and `bazel
// run`, for a program started through bazel-bin or from another program's runfiles, and whatever the main repository is
// called. NotFound names the places that were searched.
absl::StatusOr<std::string> FindRunfile(std::string_view runfile);

}  // namespace graticule

#endif  // GRATICULE_DATA_RUNFILES_H_
