// PNG, by libpng.
#ifndef GRATICULE_DATA_DECODE_PNG_H_
#define GRATICULE_DATA_DECODE_PNG_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "data/image.h"

namespace graticule {

// Whether the bytes begin as a PNG file does.
bool IsPng(std::string_view bytes);

// DecodeImage() for PNG. Colour values are taken as they stand: gamma and colour profiles are not applied.
absl::StatusOr<Image> DecodePng(std::string_view bytes);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_PNG_H_
