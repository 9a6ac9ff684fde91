#include "labels/checks.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace graticule {

void CheckLayerWidth(FieldErrors& errors, std::string_view field, int64_t value) {
  // Far above every head; keeps a slip of the pen from asking for all memory.
  constexpr int64_t kMost = 65536;
  if (value >= 0 && value <= kMost) return;
  errors.Add(field, absl::StrCat("must be from 1 to ", kMost, ", or 0 for the default, found ", value));
}

}  // namespace graticule
