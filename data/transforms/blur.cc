#include "data/transforms/blur.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "data/transforms/clones.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

constexpr int64_t kPasses = 3;
// As many as let sums of weighted values stay below 2^32.
constexpr int kWeightBits = 24;

// The 2 · radius + 1 values in the middle weigh `inside` each, the two beside them `border`; together 2^kWeightBits.
struct BoxFilter {
  int64_t radius;
  uint32_t inside;
  uint32_t border;
};

// Such that kPasses of it have the variance deviation² (equations 7, 11 and 14 of the paper).
BoxFilter ExtendedBox(double deviation) {
  const double variance = deviation * deviation / kPasses;
  const double whole = std::floor((std::sqrt(12 * variance + 1) - 1) / 2);
  const double fraction =
      (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) * (whole + 1)));
  const auto inside = static_cast<uint32_t>((1 << kWeightBits) / (2 * (whole + fraction) + 1));
  const auto radius = static_cast<int64_t>(whole);
  return {radius, inside, static_cast<uint32_t>(((1 << kWeightBits) - (2 * radius + 1) * inside) / 2)};
}

GRATICULE_CLONES void Add(const uint8_t* values, int64_t count, uint16_t* sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += values[i];
}

GRATICULE_CLONES void Move(const uint8_t* leaving, const uint8_t* entering, int64_t count, uint16_t* sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += entering[i] - leaving[i];
}

GRATICULE_CLONES void Weigh(const uint16_t* sums, const uint8_t* before, const uint8_t* after, int64_t count,
                            BoxFilter filter, uint8_t* result) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t border = before[i] + after[i];
    const uint32_t value = filter.inside * sums[i] + filter.border * border;
    result[i] = static_cast<uint8_t>((value + (1 << (kWeightBits - 1))) >> kWeightBits);
  }
}

void BlurRows(const BoxFilter& filter, Image& image) {
  constexpr int64_t kPixel = Image::kChannels;
  const int64_t count = kPixel * image.width;
  const int64_t margin = kPixel * (filter.radius + 1);
  std::vector<uint8_t> padded(count + 2 * margin);
  std::vector<uint16_t> sums(count);
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* const row = image.pixels.data() + y * count;
    for (int64_t pass = 0; pass < kPasses; ++pass) {
      uint8_t* const middle = padded.data() + margin;
      std::memcpy(middle, row, count);
      for (int64_t i = 1; i <= margin; ++i) middle[-i] = middle[-i + kPixel];
      for (int64_t i = 0; i < margin; ++i) middle[count + i] = middle[count + i - kPixel];
      std::fill(sums.begin(), sums.end(), 0);
      for (int64_t x = -filter.radius; x <= filter.radius; ++x) Add(middle + kPixel * x, count, sums.data());
      Weigh(sums.data(), middle - margin, middle + margin, count, filter, row);
    }
  }
}

void BlurColumns(const BoxFilter& filter, Image& image) {
  const int64_t count = Image::kChannels * image.width;
  Pixels result(image.pixels.size());
  std::vector<uint16_t> sums(count);
  for (int64_t pass = 0; pass < kPasses; ++pass) {
    const auto row = [&](int64_t y) {
      return image.pixels.data() + count * std::clamp<int64_t>(y, 0, image.height - 1);
    };
    std::fill(sums.begin(), sums.end(), 0);
    for (int64_t y = -filter.radius; y <= filter.radius; ++y) Add(row(y), count, sums.data());
    for (int64_t y = 0; y < image.height; ++y) {
      const uint8_t* const before = row(y - filter.radius - 1);
      const uint8_t* const after = row(y + filter.radius + 1);
      Weigh(sums.data(), before, after, count, filter, result.data() + y * count);
      Move(row(y - filter.radius), after, count, sums.data());
    }
    image.pixels.swap(result);
  }
}

}  // namespace

void BlurGaussian(Image& image, double radius) {
  CHECK(radius >= 0 && radius <= kMaxBlurRadius) << radius;
  if (radius == 0) return;
  const BoxFilter filter = ExtendedBox(radius);
  BlurRows(filter, image);
  BlurColumns(filter, image);
}

}  // namespace graticule
