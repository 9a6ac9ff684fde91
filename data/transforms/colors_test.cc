#include "data/transforms/colors.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/random.h"
#include "gtest/gtest.h"
#include "nn/size2d.h"

namespace graticule {
namespace {

// augmentation_test.cc compares with Pillow's images; here are plain formulas and the ends of the ranges.

Image Row(std::vector<uint8_t> values) {
  return {1, static_cast<int64_t>(values.size()) / 3, Pixels(values.begin(), values.end())};
}

// All pixels of each size from 1x1 pass through vectors' bodies and remainders alike.
Image Noise(int64_t height, int64_t width) {
  Image image{height, width, Pixels(Image::kChannels * height * width)};
  Draws draws({static_cast<uint64_t>(height), static_cast<uint64_t>(width)});
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(draws.Below(256));
  return image;
}

int Grey(const Image& image, size_t pixel) {
  const uint8_t* rgb = image.pixels.data() + 3 * pixel;
  return (19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) / 65536;
}

uint8_t Truncated(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

TEST(ColorsTest, FactorOneLeavesAndFactorZeroTakesAll) {
  const Image noise = Noise(5, 13);
  for (const auto adjust : {AdjustBrightness, AdjustContrast, AdjustSaturation, AdjustSharpness}) {
    Image image = noise;
    adjust(image, 1);
    EXPECT_EQ(image, noise);
  }
  Image black = noise, grey = noise, flat = noise, same = noise;
  AdjustBrightness(black, 0);
  EXPECT_EQ(black.pixels, Pixels(noise.pixels.size(), 0));
  AdjustSaturation(grey, 0);
  ToGrey(same);
  EXPECT_EQ(grey, same);
  AdjustContrast(flat, 0);
  double sum = 0;
  for (size_t i = 0; i < 65; ++i) {
    sum += Grey(noise, i);
    for (size_t c = 0; c < 3; ++c) EXPECT_EQ(grey.pixels[3 * i + c], Grey(noise, i));
  }
  EXPECT_EQ(flat.pixels, Pixels(noise.pixels.size(), static_cast<uint8_t>(sum / 65 + 0.5)));
}

TEST(ColorsTest, BlendsExaggerateAndClip) {
  // Exactly representable factors, so that double precision says what single precision must.
  for (const int64_t width : {1, 7, 33, 200}) {
    const Image noise = Noise(3, width);
    Image bright = noise, saturated = noise;
    AdjustBrightness(bright, 1.75);
    AdjustSaturation(saturated, 1.75);
    for (size_t i = 0; i < noise.pixels.size(); ++i) {
      const double value = noise.pixels[i], grey = Grey(noise, i / 3);
      ASSERT_EQ(bright.pixels[i], Truncated(1.75 * value)) << i;
      ASSERT_EQ(saturated.pixels[i], Truncated(grey + 1.75 * (value - grey))) << i;
    }
  }
}

TEST(ColorsTest, SharpnessZeroIsTheWeightedMeanOfNeighbours) {
  const Image noise = Noise(6, 40);
  Image smooth = noise;
  AdjustSharpness(smooth, 0);
  for (int64_t y = 0; y < 6; ++y) {
    for (int64_t x = 0; x < 40; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        const auto at = [&](int64_t dy, int64_t dx) -> int { return noise.pixels[3 * ((y + dy) * 40 + x + dx) + c]; };
        int expected = at(0, 0);
        if (y > 0 && y < 5 && x > 0 && x < 39) {
          int sum = 4 * at(0, 0);
          for (int64_t dy = -1; dy <= 1; ++dy) {
            for (int64_t dx = -1; dx <= 1; ++dx) sum += at(dy, dx);
          }
          expected = static_cast<int>(std::round(sum / 13.0));
        }
        ASSERT_EQ(smooth.pixels[3 * (y * 40 + x) + c], expected) << y << ", " << x;
      }
    }
  }
}

TEST(ColorsTest, SharpnessNeedsNeighbours) {
  for (const Size2d size : {Size2d{1, 9}, Size2d{9, 1}, Size2d{2, 2}, Size2d{2, 9}}) {
    const Image noise = Noise(size.height, size.width);
    Image image = noise;
    AdjustSharpness(image, 2);
    EXPECT_EQ(image, noise);
  }
}

TEST(ColorsTest, SolarizeInvertsFromTheThreshold) {
  Image image = Row({0, 99, 100, 101, 200, 255});
  Solarize(image, 100);
  EXPECT_EQ(image, Row({0, 99, 155, 154, 55, 0}));
  const Image before = image;
  Solarize(image, 256);
  EXPECT_EQ(image, before);
  Image all = before, inverted = before;
  Solarize(all, 0);
  Invert(inverted);
  EXPECT_EQ(all, inverted);
}

TEST(ColorsTest, SolarizeAddLiftsTheDark) {
  Image image = Row({0, 50, 127, 128, 200, 255});
  SolarizeAdd(image, 200, 128);
  EXPECT_EQ(image, Row({200, 250, 255, 128, 200, 255}));
  SolarizeAdd(image, 0, 256);
  EXPECT_EQ(image, Row({200, 250, 255, 128, 200, 255}));
}

TEST(ColorsTest, PosterizeKeepsUpperBits) {
  Image image = Row({255, 127, 128, 129, 3, 64});
  Posterize(image, 8);
  EXPECT_EQ(image, Row({255, 127, 128, 129, 3, 64}));
  Posterize(image, 3);
  EXPECT_EQ(image, Row({224, 96, 128, 128, 0, 64}));
  Posterize(image, 1);
  EXPECT_EQ(image, Row({128, 0, 128, 128, 0, 0}));
  Posterize(image, 0);
  EXPECT_EQ(image, Row({0, 0, 0, 0, 0, 0}));
}

TEST(ColorsTest, AutoContrastStretchesEachChannel) {
  // Red from 50 to 150, green of one value, blue of the whole range already.
  Image image = Row({50, 9, 0, 100, 9, 128, 150, 9, 255});
  AutoContrast(image);
  EXPECT_EQ(image, Row({0, 9, 0, 127, 9, 128, 255, 9, 255}));
  // The only dark pixel at every place of a long row.
  for (size_t i = 0; i < 100; ++i) {
    Image long_row = Row(std::vector<uint8_t>(300, 200));
    long_row.pixels[3 * i + 1] = 149;
    Image expected = Row(std::vector<uint8_t>(300, 200));
    for (size_t j = 0; j < 100; ++j) expected.pixels[3 * j + 1] = j == i ? 0 : 255;
    AutoContrast(long_row);
    ASSERT_EQ(long_row, expected) << i;
  }
}

TEST(ColorsTest, EqualizeMakesAUniformDistribution) {
  // 1024 pixels of four dark values, equally many.
  Image image{32, 32, Pixels(3 * 1024)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(10 + i / 3 % 4);
  Equalize(image);
  // Pillow: step = (1024 - 256) / 255 = 3; a value goes to (number of pixels below it + 1) / 3.
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    ASSERT_EQ(image.pixels[i], std::min<size_t>(255, (256 * (i / 3 % 4) + 1) / 3));
  }
}

TEST(ColorsTest, EqualizeLeavesWhatHasTooFewPixels) {
  const Image noise = Noise(10, 10);
  Image image = noise;
  Equalize(image);
  EXPECT_EQ(image, noise);
}

}  // namespace
}  // namespace graticule
