// Decodes any bytes with options and a window that are taken from their end, whole and the window alone: within the
// limit, and the window as it is in the whole.
#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "data/decode/decode.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 18;

// Makes the checksums of PNG's chunks right, without which libpng would see hardly any change.
void FixChecksums(std::string& file) {
  constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
  if (file.compare(0, kSignature.size(), kSignature) != 0) return;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(file.data());
  for (size_t at = kSignature.size(); file.size() - at >= 12;) {
    const size_t length = size_t{bytes[at]} << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
    if (file.size() - at - 12 < length) return;
    const uLong checksum = crc32(0, bytes + at + 4, static_cast<uInt>(length + 4));
    at += length + 8;
    for (int shift = 24; shift >= 0; shift -= 8) bytes[at++] = static_cast<uint8_t>(checksum >> shift);
  }
}

// Numbers of the input's last bytes, which decoders do not need.
class Tail {
 public:
  explicit Tail(std::string_view bytes) : bytes_(bytes) {}
  int64_t Below(int64_t n) {
    int64_t value = 0;
    for (int i = 0; i < 2 && !bytes_.empty(); ++i) {
      value = value << 8 | static_cast<uint8_t>(bytes_.back());
      bytes_.remove_suffix(1);
    }
    return value % n;
  }

 private:
  std::string_view bytes_;
};

void CheckWindow(const Image& image, const Box& window) {
  CHECK(image.height > 0 && image.width > 0);
  CHECK(static_cast<int64_t>(image.pixels.size()) == Image::kChannels * image.size().area());
  CHECK(window.size.height > 0 && window.size.width > 0 && window.top >= 0 && window.left >= 0);
  CHECK(window.top + window.size.height <= image.height && window.left + window.size.width <= image.width);
}

void Fuzz(const std::string& bytes) {
  Tail tail(bytes);
  DecodeOptions options;
  options.max_pixels = kMaxPixels;
  const int64_t flags = tail.Below(8);
  options.exif_orientation = flags & 1;
  options.keep_truncated = flags & 2;
  const bool scaled = flags & 4;
  options.background = {static_cast<uint8_t>(tail.Below(256)), 0, 255};
  DecodeOptions strict = options;
  strict.keep_truncated = false;

  const absl::StatusOr<Image> whole = DecodeImage(bytes, options);
  if (whole.ok()) {
    CHECK(whole->size().area() <= kMaxPixels);
    CheckWindow(*whole, {0, 0, whole->size()});
  } else {
    CHECK(!whole.status().message().empty());
  }

  std::optional<Box> window;
  const absl::StatusOr<DecodedRegion> region = DecodeRegion(bytes, options, [&](Size2d size) {
    CHECK(!window.has_value());
    CHECK(size.area() > 0 && size.area() <= kMaxPixels);
    if (whole.ok()) CHECK(size == whole->size());
    window = {tail.Below(size.height), tail.Below(size.width), {}};
    window->size = {1 + tail.Below(size.height - window->top), 1 + tail.Below(size.width - window->left)};
    const Size2d target = scaled ? Size2d{1 + tail.Below(64), 1 + tail.Below(64)} : window->size;
    return std::optional(WantedRegion{*window, target});
  });
  if (whole.ok()) CHECK(region.ok()) << region.status();
  if (!region.ok()) return;
  CHECK(window.has_value());
  CheckWindow(region->image, region->window);
  // libjpeg makes up what a file lacks, not always the same.
  if (scaled || !DecodeImage(bytes, strict).ok()) return;
  CHECK(region->window.size == window->size);
  for (int64_t y = 0; y < window->size.height; ++y) {
    const auto row = [y](const Image& image, const Box& box) {
      return image.pixels.data() + Image::kChannels * ((box.top + y) * image.width + box.left);
    };
    CHECK(std::memcmp(row(*whole, *window), row(region->image, region->window),
                      Image::kChannels * window->size.width) == 0);
  }
}

}  // namespace
}  // namespace graticule

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  graticule::FixChecksums(bytes);
  graticule::Fuzz(bytes);
  return 0;
}
