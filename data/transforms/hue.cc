#include "data/transforms/hue.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "plugin/logging.h"

namespace graticule {
namespace {

// Floats and doubles change places as they do in Pillow, where they decide how values between two are truncated.
struct Hsv {
  uint8_t hue = 0, saturation = 0, value = 0;
};

Hsv ToHsv(int red, int green, int blue) {
  const int most = std::max({red, green, blue});
  const int least = std::min({red, green, blue});
  if (most == least) return {.value = static_cast<uint8_t>(most)};
  const float spread = static_cast<float>(most - least);
  const float saturation = spread / static_cast<float>(most);
  const float r = static_cast<float>(most - red) / spread;
  const float g = static_cast<float>(most - green) / spread;
  const float b = static_cast<float>(most - blue) / spread;
  const float sixths = red == most     ? b - g
                       : green == most ? static_cast<float>(2.0 + r - b)
                                       : static_cast<float>(4.0 + g - r);
  const double turns = sixths / 6.0 + 1.0;
  const float hue = static_cast<float>(turns >= 1 ? turns - 1 : turns);
  return {static_cast<uint8_t>(hue * 255.0), static_cast<uint8_t>(saturation * 255.0), static_cast<uint8_t>(most)};
}

// Where a hue lies on the circle: which sixth, and how far into it.
struct Sixth {
  int number;
  float fraction;
};

std::array<Sixth, 256> MakeSixths() {
  std::array<Sixth, 256> sixths;
  for (int hue = 0; hue < 256; ++hue) {
    const double place = static_cast<float>(hue) * 6.0 / 255.0;
    const int number = static_cast<int>(place);
    sixths[hue] = {number % 6, static_cast<float>(place - number)};
  }
  return sixths;
}

// What red, green and blue do in each sixth: the value, the low level, the one that falls or the one that rises.
constexpr int kValue = 0, kLow = 1, kFalling = 2, kRising = 3;
constexpr int kLevels[6][Image::kChannels] = {{kValue, kRising, kLow}, {kFalling, kValue, kLow},
                                              {kLow, kValue, kRising}, {kLow, kFalling, kValue},
                                              {kRising, kLow, kValue}, {kValue, kLow, kFalling}};

void WriteRgb(const Hsv& hsv, const std::array<Sixth, 256>& sixths, uint8_t* pixel) {
  const auto& [sixth, fraction] = sixths[hsv.hue];
  const float saturation = static_cast<float>(hsv.saturation / 255.0);
  const auto reduced = [&hsv](double share) {
    return static_cast<uint8_t>(static_cast<float>(hsv.value) * (1.0 - share) + 0.5);
  };
  const std::array<uint8_t, 4> levels = {hsv.value, reduced(saturation), reduced(saturation * fraction),
                                         reduced(saturation * (1.0 - fraction))};
  for (int64_t c = 0; c < Image::kChannels; ++c) pixel[c] = levels[kLevels[sixth][c]];
}

}  // namespace

void AdjustHue(Image& image, double factor) {
  CHECK(factor >= -0.5 && factor <= 0.5) << factor;
  static const std::array<Sixth, 256> sixths = MakeSixths();
  const int shift = static_cast<int>(factor * 255);
  for (size_t i = 0; i < image.pixels.size(); i += Image::kChannels) {
    uint8_t* const pixel = image.pixels.data() + i;
    Hsv hsv = ToHsv(pixel[0], pixel[1], pixel[2]);
    hsv.hue = static_cast<uint8_t>(hsv.hue + shift);
    WriteRgb(hsv, sixths, pixel);
  }
}

}  // namespace graticule
