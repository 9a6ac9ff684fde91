// JPEG, by libjpeg-turbo.
#ifndef GRATICULE_DATA_DECODE_JPEG_H_
#define GRATICULE_DATA_DECODE_JPEG_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "data/image.h"

namespace graticule {

// Whether the bytes begin as a JPEG file does.
bool IsJpeg(std::string_view bytes);

// DecodeImage() for JPEG. A warning of libjpeg about the image's data counts as damage; one about what stands before it
// does not, as the pixels are whole.
absl::StatusOr<Image> DecodeJpeg(std::string_view bytes);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_JPEG_H_
