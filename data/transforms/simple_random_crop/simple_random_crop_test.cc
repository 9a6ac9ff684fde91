#include "data/transforms/simple_random_crop/simple_random_crop.h"

#include <set>
#include <utility>

#include "data/transforms/geometry.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

TEST(ReflectedCropTest, IsTorchvisionsPadding) {
  EXPECT_EQ(ReflectedCrop(TestImage("picture"), {-4, -4, {61 + 8, 97 + 8}}), TestImage("reflected"));
  // Padding beyond the image is reflected again.
  const Image tiny = Crop(TestImage("picture"), {0, 0, {2, 3}});
  EXPECT_EQ(ReflectedCrop(tiny, {-7, -7, {2 + 14, 3 + 14}}), TestImage("reflected_tiny"));
}

TEST(ReflectedCropTest, RepeatsASinglePixel) {
  EXPECT_EQ(ReflectedCrop(Image{1, 1, {1, 2, 3}}, {-1, -1, {2, 2}}),
            (Image{2, 2, {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3}}));
}

TEST(SimpleRandomCropTest, EveryWindowOfThePaddedImageComes) {
  const Image padded = TestImage("small_reflected");  // 32x50 and 4 on each side
  SimpleRandomCrop config;
  const auto transform = *MakeTransform(config);
  std::set<std::pair<int64_t, int64_t>> windows;
  for (uint64_t key = 0; key < 1500; ++key) {
    const Image image = Transformed(*transform, TestImage("picture"), key);
    ASSERT_EQ(image.size(), (Size2d{32, 32}));
    Draws draws({key});
    const int64_t top = draws.Below(9), left = draws.Below(27);
    windows.emplace(top, left);
    // Pillow's bicubic filter against LibTorch's.
    ASSERT_LE(MaxDifference(image, Crop(padded, {top, left, {32, 32}})), 1) << key;
  }
  // All but a few of 9 · 27: each is missed with probability (1 - 1/243)^1500 = 0.002.
  EXPECT_GT(windows.size(), 238u);
}

TEST(SimpleRandomCropTest, WithoutPaddingStaysInside) {
  SimpleRandomCrop config;
  config.add_size(6);
  config.set_padding(0);
  const auto transform = *MakeTransform(config);
  std::set<int> lefts;
  for (uint64_t key = 0; key < 100; ++key) {
    const Image image = Transformed(*transform, CoordinateImage(6, 9), key);
    EXPECT_EQ(image.pixels[0], 0);
    lefts.insert(image.pixels[1]);
  }
  EXPECT_EQ(lefts, (std::set<int>{0, 1, 2, 3}));
}

TEST(SimpleRandomCropTest, RejectsBadConfigs) {
  SimpleRandomCrop config;
  config.add_size(0);
  config.set_padding(-1);
  EXPECT_THAT(ConfigError(config), HasSubstr("size: must be"));
  EXPECT_THAT(ConfigError(config), HasSubstr("padding: must be in [0, 1024], found -1"));
}

}  // namespace
}  // namespace graticule
