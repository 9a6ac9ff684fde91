// What the configs of several objectives have to satisfy.
#ifndef GRATICULE_LABELS_CHECKS_H_
#define GRATICULE_LABELS_CHECKS_H_

#include <cstdint>
#include <string_view>

#include "plugin/status.h"

namespace graticule {

// Adds an error under `field` unless `value` is the width of a layer, or 0 for the default.
void CheckLayerWidth(FieldErrors& errors, std::string_view field, int64_t value);

}  // namespace graticule

#endif  // GRATICULE_LABELS_CHECKS_H_
