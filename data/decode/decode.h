// JPEG and PNG files to pixels, by content and never by name.
#ifndef GRATICULE_DATA_DECODE_DECODE_H_
#define GRATICULE_DATA_DECODE_DECODE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "data/image.h"

namespace graticule {

// Decodes the bytes of a JPEG or PNG file. Truncated and damaged files are errors with a reason; so are images of more
// than 2^28 pixels. Grey becomes RGB, CMYK is converted, 16 bits become 8, transparency is laid over black.
absl::StatusOr<Image> DecodeImage(std::string_view bytes);

// Whether a file in a folder of images is meant to be one: .jpg, .jpeg or .png, in any case. What it holds, DecodeImage
// says.
bool HasImageExtension(const std::string& path);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_DECODE_H_
