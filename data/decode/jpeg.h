// JPEG, by libjpeg-turbo.
#ifndef GRATICULE_DATA_DECODE_JPEG_H_
#define GRATICULE_DATA_DECODE_JPEG_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "data/decode/decode.h"

namespace graticule {

// Whether the bytes begin as a JPEG file does.
bool IsJpeg(std::string_view bytes);

// DecodeRegion() for JPEG; without `choose` DecodeImage(). EXIF's orientation is left to the caller. A warning of
// libjpeg about the image's data counts as damage; one about what stands before it does not, as the pixels are whole.
// With keep_truncated, what a file that ends too early does not tell is grey.
// Below the window that was chosen, damage goes unnoticed, as nothing is read there; that the end is missing does not.
absl::StatusOr<DecodedRegion> DecodeJpeg(std::string_view bytes, const DecodeOptions& options,
                                         const RegionChooser& choose);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_JPEG_H_
