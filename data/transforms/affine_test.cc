#include "data/transforms/affine.h"

#include <algorithm>
#include <cmath>

#include "data/random.h"
#include "data/transforms/test_images.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

constexpr Color kFill = {1, 2, 3};
constexpr Interpolation kInterpolations[] = {BILINEAR, BICUBIC};

Image Transformed(Image image, const AffineMatrix& matrix, Interpolation interpolation) {
  ApplyAffine(image, matrix, interpolation, kFill);
  return image;
}

int At(const Image& image, int64_t y, int64_t x, int64_t c) {
  return image.pixels[Image::kChannels * (y * image.width + x) + c];
}

double Weight(double distance, Interpolation interpolation) {
  const double t = std::abs(distance);
  if (interpolation == BILINEAR) return std::max(0.0, 1 - t);
  // Keys' cubic with a = -1.
  if (t < 1) return t * t * t - 2 * t * t + 1;
  if (t < 2) return -t * t * t + 5 * t * t - 8 * t + 4;
  return 0;
}

// The definition, tap by tap: an image in double precision, before it is truncated; fill where it says so.
double Resampled(const Image& image, double x, double y, int64_t c, Interpolation interpolation) {
  if (x < 0 || x >= static_cast<double>(image.width) || y < 0 || y >= static_cast<double>(image.height)) {
    return kFill[c];
  }
  const auto left = static_cast<int64_t>(std::floor(x - 0.5)), top = static_cast<int64_t>(std::floor(y - 0.5));
  double sum = 0;
  for (int64_t i = top - 1; i <= top + 2; ++i) {
    for (int64_t j = left - 1; j <= left + 2; ++j) {
      const double weight = Weight(y - 0.5 - static_cast<double>(i), interpolation) *
                            Weight(x - 0.5 - static_cast<double>(j), interpolation);
      sum += weight *
             At(image, std::clamp<int64_t>(i, 0, image.height - 1), std::clamp<int64_t>(j, 0, image.width - 1), c);
    }
  }
  return std::clamp(sum, 0.0, 255.0);
}

TEST(AffineTest, IsTheDefinitionForAllMatricesAndSizes) {
  Draws draws({7});
  for (const Size2d size : {Size2d{1, 1}, Size2d{1, 40}, Size2d{33, 1}, Size2d{2, 3}, Size2d{40, 31}}) {
    Image noise{size.height, size.width, Pixels(Image::kChannels * size.area())};
    for (uint8_t& value : noise.pixels) value = static_cast<uint8_t>(draws.Below(256));
    for (int round = 0; round < 20; ++round) {
      AffineMatrix m;
      for (size_t i = 0; i < m.size(); ++i) {
        m[i] = i % 3 == 2 ? draws.Uniform(-0.5, 0.5) * static_cast<double>(i == 2 ? size.width : size.height)
                          : draws.Uniform(-1.5, 1.5);
      }
      for (const Interpolation interpolation : kInterpolations) {
        const Image result = Transformed(noise, m, interpolation);
        for (int64_t y = 0; y < size.height; ++y) {
          for (int64_t x = 0; x < size.width; ++x) {
            const double middle_x = static_cast<double>(x) + 0.5, middle_y = static_cast<double>(y) + 0.5;
            for (int64_t c = 0; c < Image::kChannels; ++c) {
              const double expected = Resampled(noise, m[0] * middle_x + m[1] * middle_y + m[2],
                                                m[3] * middle_x + m[4] * middle_y + m[5], c, interpolation);
              const double value = At(result, y, x, c);
              ASSERT_GE(value, expected - 1.001);
              ASSERT_LE(value, expected + 0.001);
            }
          }
        }
      }
    }
  }
}

TEST(AffineTest, TheIdentityLeavesAnImage) {
  const Image picture = TestImage("picture");
  for (const Interpolation interpolation : kInterpolations) {
    EXPECT_EQ(Transformed(picture, {1, 0, 0, 0, 1, 0}, interpolation), picture);
    EXPECT_EQ(Transformed(picture, Rotation(picture.size(), 0), interpolation), picture);
  }
}

TEST(AffineTest, WholeShiftsMovePixels) {
  const Image picture = TestImage("picture");
  for (const Interpolation interpolation : kInterpolations) {
    const Image shifted = Transformed(picture, {1, 0, 10, 0, 1, -7}, interpolation);
    for (int64_t y = 0; y < picture.height; ++y) {
      for (int64_t x = 0; x < picture.width; ++x) {
        const bool inside = x + 10 < picture.width && y >= 7;
        for (int64_t c = 0; c < Image::kChannels; ++c) {
          ASSERT_EQ(At(shifted, y, x, c), inside ? At(picture, y - 7, x + 10, c) : kFill[c]);
        }
      }
    }
  }
}

TEST(AffineTest, AQuarterTurnIsCounterClockwise) {
  const Image picture = TestImage("center_80x80");
  for (const Interpolation interpolation : kInterpolations) {
    const Image turned = Transformed(picture, Rotation(picture.size(), 90), interpolation);
    for (int64_t y = 0; y < 80; ++y) {
      for (int64_t x = 0; x < 80; ++x) {
        for (int64_t c = 0; c < Image::kChannels; ++c) ASSERT_EQ(At(turned, y, x, c), At(picture, x, 79 - y, c));
      }
    }
  }
}

TEST(AffineTest, FlatColoursStayExact) {
  for (int value = 0; value < 256; value += 5) {
    Image flat{20, 30, Pixels(3 * 600, static_cast<uint8_t>(value))};
    for (const Interpolation interpolation : kInterpolations) {
      Image image = flat;
      ApplyAffine(image, Rotation(flat.size(), 17), interpolation, {flat.pixels[0], flat.pixels[0], flat.pixels[0]});
      ASSERT_EQ(image, flat) << value;
    }
  }
}

TEST(AffineTest, FarAwayIsFill) {
  const Image picture = TestImage("picture");
  for (const AffineMatrix& matrix :
       {AffineMatrix{1, 0, 1e12, 0, 1, 0}, AffineMatrix{1, 0, 0, 0, 1, -1e12}, AffineMatrix{1, 30, 97, 0, 1, 0}}) {
    const Image result = Transformed(picture, matrix, BICUBIC);
    for (size_t i = 0; i < result.pixels.size(); ++i) ASSERT_EQ(result.pixels[i], kFill[i % 3]);
  }
}

}  // namespace
}  // namespace graticule
