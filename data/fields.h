// What the configs of many transforms hold.
#ifndef GRATICULE_DATA_FIELDS_H_
#define GRATICULE_DATA_FIELDS_H_

#include <string_view>

#include "google/protobuf/repeated_field.h"
#include "plugin/status.h"

namespace graticule {

struct Range {
  double low;
  double high;

  bool operator==(const Range&) const = default;
};

// Adds to `errors` where the number is not in [0, 1].
void CheckProbability(double probability, std::string_view path, FieldErrors& errors);

// Two numbers in `allowed`, ends included, the lower first; `otherwise` where the field is empty. Adds to `errors`
// where the field is neither.
Range RangeFromField(const google::protobuf::RepeatedField<double>& field, std::string_view path, Range otherwise,
                     Range allowed, FieldErrors& errors);

}  // namespace graticule

#endif  // GRATICULE_DATA_FIELDS_H_
