// JPEG files for tests, and libjpeg's own view of them.
#ifndef GRATICULE_DATA_DECODE_TEST_JPEG_H_
#define GRATICULE_DATA_DECODE_TEST_JPEG_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace graticule {

struct TestJpeg {
  int64_t height = 0, width = 0;
  int components = 3;                    // 1: grey, 3: RGB kept as YCbCr, 4: CMYK kept as YCCK
  std::array<int, 2> sampling = {2, 2};  // of the first and fourth component, horizontally and vertically; of others 1
  int quality = 90;
  int restart_interval = 0;  // MCUs
  bool optimized = false;    // codes of its own
  bool progressive = false;
  bool interleaved = true;  // false: a scan for each component
  bool noise = false;       // as far from smooth as can be
};

// What is in it is drawn from `seed`.
std::string Encode(const TestJpeg& jpeg, uint64_t seed = 0);

// Every kind of sampling, restart markers and code that the tests try, of that size.
std::vector<TestJpeg> TestJpegs(int64_t height, int64_t width);

// As libjpeg decodes it at 1/`denominator`, in three components, or four for CMYK. Nothing if it finds anything amiss
// after the header.
struct Samples {
  int64_t height = 0, width = 0;
  int components = 0;
  std::vector<uint8_t> values;
};
std::optional<Samples> DecodeByLibjpeg(std::string_view bytes, int denominator = 1);

// Adobe's CMYK as RGB.
Image ToRgb(const Samples& samples);

// The window's pixels.
Image Cut(const Image& image, const Box& window);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_TEST_JPEG_H_
