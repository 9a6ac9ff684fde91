#include "data/transforms/colors.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "data/transforms/clones.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

constexpr int64_t kChannels = Image::kChannels;
constexpr int kValues = 256;
// A value for every value of a channel.
using Table = std::array<uint8_t, kValues>;
using Tables = std::array<Table, kChannels>;
using Histograms = std::array<std::array<int64_t, kValues>, kChannels>;

// Pillow's blend, in its single precision: degenerate + factor · (value - degenerate), clipped and truncated.
inline uint8_t Blend(int degenerate, int value, float factor) {
  const float blended = static_cast<float>(degenerate) + factor * static_cast<float>(value - degenerate);
  return static_cast<uint8_t>(static_cast<int>(std::min(std::max(blended, 0.f), 255.f)));
}

inline int Grey(const uint8_t* pixel) {
  return (19595 * pixel[0] + 38470 * pixel[1] + 7471 * pixel[2] + (1 << 15)) >> 16;
}

GRATICULE_CLONES void BlendWithConstant(uint8_t* values, int64_t count, int constant, float factor) {
  for (int64_t i = 0; i < count; ++i) values[i] = Blend(constant, values[i], factor);
}

// Of at most kBlock pixels, so that sums of 32 bits hold it.
constexpr int64_t kBlock = int64_t{1} << 20;
GRATICULE_CLONES uint32_t SumOfGreys(const uint8_t* pixels, int64_t count) {
  uint32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += Grey(pixels + kChannels * i);
  return sum;
}

GRATICULE_CLONES void BlendWithGrey(uint8_t* pixels, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* pixel = pixels + kChannels * i;
    const int grey = Grey(pixel);
    for (int64_t c = 0; c < kChannels; ++c) pixel[c] = Blend(grey, pixel[c], factor);
  }
}

// One row's inner values blended with ImageFilter.SMOOTH's: the 3x3 neighbours and five times the value over 13,
// rounded (a sum of integers over 13 is never halfway).
GRATICULE_CLONES void BlendRowWithSmooth(const uint8_t* above, const uint8_t* row, const uint8_t* below, int64_t count,
                                         float factor, uint8_t* result) {
  for (int64_t i = 0; i < count; ++i) {
    const int sum = above[i - 3] + above[i] + above[i + 3] + row[i - 3] + 5 * row[i] + row[i + 3] + below[i - 3] +
                    below[i] + below[i + 3];
    const int smooth = static_cast<int>(static_cast<float>(sum) * (1 / 13.f) + 0.5f);
    result[i] = Blend(smooth, row[i], factor);
  }
}

void Apply(Image& image, const Tables& tables) {
  for (size_t i = 0; i < image.pixels.size(); i += kChannels) {
    for (int64_t c = 0; c < kChannels; ++c) image.pixels[i + c] = tables[c][image.pixels[i + c]];
  }
}

Histograms CountValues(const Image& image) {
  Histograms histograms{};
  for (size_t i = 0; i < image.pixels.size(); i += kChannels) {
    for (int64_t c = 0; c < kChannels; ++c) ++histograms[c][image.pixels[i + c]];
  }
  return histograms;
}

struct Extremes {
  std::array<uint8_t, kChannels> lowest;
  std::array<uint8_t, kChannels> highest;
};

// Of each channel. Whole pixels in lanes as wide as registers, then the lanes of each channel.
GRATICULE_CLONES Extremes FindExtremes(const uint8_t* values, int64_t count) {
  constexpr int64_t kLanes = kChannels * 32;
  uint8_t lowest[kLanes], highest[kLanes];
  std::fill_n(lowest, kLanes, 255);
  std::fill_n(highest, kLanes, 0);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lowest[lane] = std::min(lowest[lane], values[i + lane]);
      highest[lane] = std::max(highest[lane], values[i + lane]);
    }
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) {
    lowest[lane] = std::min(lowest[lane], values[i]);
    highest[lane] = std::max(highest[lane], values[i]);
  }
  Extremes extremes;
  extremes.lowest.fill(255);
  extremes.highest.fill(0);
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    uint8_t &low = extremes.lowest[lane % kChannels], &high = extremes.highest[lane % kChannels];
    low = std::min(low, lowest[lane]);
    high = std::max(high, highest[lane]);
  }
  return extremes;
}

Table Identity() {
  Table table;
  for (int value = 0; value < kValues; ++value) table[value] = static_cast<uint8_t>(value);
  return table;
}

Table Stretched(int lowest, int highest) {
  if (highest <= lowest) return Identity();
  Table table;
  const double scale = 255.0 / (highest - lowest);
  const double offset = -lowest * scale;
  for (int value = 0; value < kValues; ++value) {
    table[value] = static_cast<uint8_t>(std::clamp(static_cast<int>(value * scale + offset), 0, 255));
  }
  return table;
}

Table Equalized(const std::array<int64_t, kValues>& histogram) {
  int64_t total = 0, of_highest = 0;
  for (const int64_t count : histogram) {
    total += count;
    if (count > 0) of_highest = count;
  }
  const int64_t step = (total - of_highest) / 255;
  if (step == 0) return Identity();
  Table table;
  int64_t below = step / 2;
  for (int value = 0; value < kValues; ++value) {
    table[value] = static_cast<uint8_t>(std::min<int64_t>(below / step, 255));
    below += histogram[value];
  }
  return table;
}

}  // namespace

void AdjustBrightness(Image& image, double factor) {
  BlendWithConstant(image.pixels.data(), image.pixels.size(), 0, static_cast<float>(factor));
}

void AdjustContrast(Image& image, double factor) {
  const int64_t count = image.height * image.width;
  if (count == 0) return;
  int64_t sum = 0;
  for (int64_t i = 0; i < count; i += kBlock) {
    sum += SumOfGreys(image.pixels.data() + kChannels * i, std::min(kBlock, count - i));
  }
  const int mean = static_cast<int>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
  BlendWithConstant(image.pixels.data(), image.pixels.size(), mean, static_cast<float>(factor));
}

void AdjustSaturation(Image& image, double factor) {
  BlendWithGrey(image.pixels.data(), image.height * image.width, static_cast<float>(factor));
}

void AdjustSharpness(Image& image, double factor) {
  const int64_t row = kChannels * image.width, inner = row - 2 * kChannels;
  if (image.height < 3 || image.width < 3) return;
  // The rows above and at y as they were.
  Pixels above(image.pixels.begin(), image.pixels.begin() + row), here(row);
  for (int64_t y = 1; y < image.height - 1; ++y) {
    uint8_t* const place = image.pixels.data() + y * row;
    std::copy_n(place, row, here.begin());
    BlendRowWithSmooth(above.data() + kChannels, here.data() + kChannels, place + row + kChannels, inner,
                       static_cast<float>(factor), place + kChannels);
    above.swap(here);
  }
}

void ToGrey(Image& image) { AdjustSaturation(image, 0); }

void Invert(Image& image) {
  for (uint8_t& value : image.pixels) value = ~value;
}

void Solarize(Image& image, int threshold) {
  if (threshold > 255) return;
  const uint8_t from = static_cast<uint8_t>(std::max(threshold, 0));
  for (uint8_t& value : image.pixels) value ^= value < from ? 0 : 255;
}

void SolarizeAdd(Image& image, int addition, int threshold) {
  CHECK(addition >= 0 && addition <= 255 && threshold >= 0 && threshold <= 256) << addition << ", " << threshold;
  // Without branches, which random pixels would have the CPU guess.
  for (uint8_t& value : image.pixels) {
    value = static_cast<uint8_t>(std::min(value + (value < threshold ? addition : 0), 255));
  }
}

void Posterize(Image& image, int bits) {
  CHECK(bits >= 0 && bits <= 8) << bits;
  const uint8_t mask = static_cast<uint8_t>(0xff00 >> bits);
  for (uint8_t& value : image.pixels) value &= mask;
}

void AutoContrast(Image& image) {
  const Extremes extremes = FindExtremes(image.pixels.data(), image.pixels.size());
  Tables tables;
  for (int64_t c = 0; c < kChannels; ++c) tables[c] = Stretched(extremes.lowest[c], extremes.highest[c]);
  Apply(image, tables);
}

void Equalize(Image& image) {
  const Histograms histograms = CountValues(image);
  Tables tables;
  for (int64_t c = 0; c < kChannels; ++c) tables[c] = Equalized(histograms[c]);
  Apply(image, tables);
}

}  // namespace graticule
