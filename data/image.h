// A decoded image in memory.
#ifndef GRATICULE_DATA_IMAGE_H_
#define GRATICULE_DATA_IMAGE_H_

#include <cstdint>
#include <vector>

namespace graticule {

// 8-bit RGB, rows from the top, channels last and tight: pixel (y, x) starts at pixels[3 * (y * width + x)]. Grey
// images are replicated, transparency is laid over black when decoded.
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;

  static constexpr int64_t kChannels = 3;
  // Nothing larger is decoded or made, lest a small bad file takes all memory.
  static constexpr int64_t kMaxPixels = int64_t{1} << 28;
  bool operator==(const Image&) const = default;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_IMAGE_H_
