// PNG, by libpng.
#ifndef GRATICULE_DATA_DECODE_PNG_H_
#define GRATICULE_DATA_DECODE_PNG_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "data/decode/decode.h"

namespace graticule {

// Whether the bytes begin as a PNG file does.
bool IsPng(std::string_view bytes);

// DecodeImage() for PNG, as stored. Colour values are taken as they stand: gamma and colour profiles are not applied.
// Of an animation it is the default image.
absl::StatusOr<Image> DecodePng(std::string_view bytes, const DecodeOptions& options);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_PNG_H_
