#include "data/fields.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace graticule {

void CheckProbability(double probability, std::string_view path, FieldErrors& errors) {
  if (!(probability >= 0 && probability <= 1)) {
    errors.Add(path, absl::StrCat("must be in [0, 1], found ", probability));
  }
}

Range RangeFromField(const google::protobuf::RepeatedField<double>& field, std::string_view path, Range otherwise,
                     Range allowed, FieldErrors& errors) {
  if (field.empty()) return otherwise;
  if (field.size() == 2 && allowed.low <= field[0] && field[0] <= field[1] && field[1] <= allowed.high) {
    return {field[0], field[1]};
  }
  errors.Add(path, absl::StrCat("must be two numbers in [", allowed.low, ", ", allowed.high,
                                "], the lower first, found [", absl::StrJoin(field, ", "), "]"));
  return otherwise;
}

}  // namespace graticule
