// JPEG, PNG and WebP files to pixels, by content and never by name.
#ifndef GRATICULE_DATA_DECODE_DECODE_H_
#define GRATICULE_DATA_DECODE_DECODE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "data/decode/decode.pb.h"
#include "data/image.h"
#include "plugin/status.h"

namespace graticule {

struct DecodeOptions {
  bool exif_orientation = false;
  std::array<uint8_t, 3> background = {0, 0, 0};
  int64_t max_pixels = int64_t{1} << 26;
  bool keep_truncated = false;

  // What the message says; its mistakes go to `errors`.
  static DecodeOptions From(const Decoding& config, FieldErrors& errors);
};

// Decodes the bytes of an image file. Grey becomes RGB, CMYK is converted, 16 bits become 8, transparency is laid over
// the background; of an animation the first frame counts. A file that ends too early is an OutOfRange error, damage of
// another kind DataLoss, what is no image of these formats InvalidArgument or Unimplemented, all with a reason.
absl::StatusOr<Image> DecodeImage(std::string_view bytes, const DecodeOptions& options = {});

// What of an image is wanted: a window, which will be resized to `target`.
struct WantedRegion {
  Box window;
  Size2d target;
};
// Says what is wanted of an image of this size; nothing: all of it.
using RegionChooser = std::function<std::optional<WantedRegion>(Size2d)>;

struct DecodedRegion {
  Image image;
  Box window;  // where in `image` the wanted window lies
};

// Decodes no more than what `choose` wants, where that is quicker: `choose` is called once the file's header tells the
// image's size (after EXIF orientation). The image may hold more than the window. A window that is at least 2, 4 or 8
// times as large as its target may come at 1/2, 1/4 or 1/8 of its size. Without scaling the window's pixels are those
// of DecodeImage().
absl::StatusOr<DecodedRegion> DecodeRegion(std::string_view bytes, const DecodeOptions& options,
                                           const RegionChooser& choose);

// Whether a file in a folder of images is meant to be one: .jpg, .jpeg, .png or .webp, in any case. What it holds,
// DecodeImage says.
bool HasImageExtension(const std::string& path);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_DECODE_H_
