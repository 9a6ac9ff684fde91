#include "data/transforms/random_vertical_flip/random_vertical_flip.h"

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Transform> Make(double probability) {
  RandomVerticalFlip config;
  config.set_probability(probability);
  return *MakeTransform(config);
}

TEST(RandomVerticalFlipTest, MirrorsEveryColumn) {
  for (const int64_t height : {1, 2, 5, 6}) {
    const Image image = Transformed(*Make(1), CoordinateImage(height, 3));
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < 3; ++x) {
        EXPECT_EQ(image.pixels[3 * (3 * y + x)], height - 1 - y);
        EXPECT_EQ(image.pixels[3 * (3 * y + x) + 1], x);
        EXPECT_EQ(image.pixels[3 * (3 * y + x) + 2], 7);
      }
    }
  }
}

TEST(RandomVerticalFlipTest, KeepsItsProbability) {
  const Image image = CoordinateImage(2, 1);
  const auto share = [&image](const Transform& flip) {
    int flipped = 0;
    for (uint64_t key = 0; key < 4000; ++key) flipped += Transformed(flip, image, key) != image;
    return flipped / 4000.0;
  };
  EXPECT_EQ(share(*Make(0)), 0);
  EXPECT_NEAR(share(*Make(0.25)), 0.25, 0.04);
  EXPECT_NEAR(share(**MakeTransform(RandomVerticalFlip())), 0.5, 0.05);
}

TEST(RandomVerticalFlipTest, RejectsABadProbability) {
  RandomVerticalFlip config;
  config.set_probability(1.1);
  EXPECT_THAT(ConfigError(config), HasSubstr("probability: must be in [0, 1], found 1.1"));
}

}  // namespace
}  // namespace graticule
