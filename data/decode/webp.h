// WebP, by libwebp.
#ifndef GRATICULE_DATA_DECODE_WEBP_H_
#define GRATICULE_DATA_DECODE_WEBP_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "data/decode/decode.h"

namespace graticule {

// Whether the bytes begin as a WebP file does.
bool IsWebp(std::string_view bytes);

// DecodeImage() for WebP, as stored. Of an animation it is the first frame; where that does not cover the canvas, the
// background shows.
absl::StatusOr<Image> DecodeWebp(std::string_view bytes, const DecodeOptions& options);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_WEBP_H_
