// Checks of optimizers' fields, whose defaults are filled in.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_CHECKS_H_
#define GRATICULE_TRAINER_OPTIMIZERS_CHECKS_H_

#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "plugin/status.h"

namespace graticule {

// The weight of the past in a running mean.
inline void CheckBeta(FieldErrors& errors, std::string_view field, double value) {
  if (!(value >= 0 && value < 1)) errors.Add(field, absl::StrCat("must be in [0, 1), found ", value));
}

inline void CheckPositive(FieldErrors& errors, std::string_view field, double value) {
  if (!(value > 0 && std::isfinite(value))) errors.Add(field, absl::StrCat("must be positive, found ", value));
}

inline void CheckNotNegative(FieldErrors& errors, std::string_view field, double value) {
  if (!(value >= 0 && std::isfinite(value))) errors.Add(field, absl::StrCat("must not be negative, found ", value));
}

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_CHECKS_H_
