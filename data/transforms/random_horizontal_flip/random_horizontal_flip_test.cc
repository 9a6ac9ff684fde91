#include "data/transforms/random_horizontal_flip/random_horizontal_flip.h"

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Transform> Make(double probability) {
  RandomHorizontalFlip config;
  config.set_probability(probability);
  return *MakeTransform(config);
}

TEST(RandomHorizontalFlipTest, MirrorsEveryRow) {
  for (const int64_t width : {1, 2, 5, 6, 7, 11, 12, 40}) {
    const Image image = Transformed(*Make(1), CoordinateImage(3, width));
    for (int64_t y = 0; y < 3; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        EXPECT_EQ(image.pixels[3 * (width * y + x)], y);
        EXPECT_EQ(image.pixels[3 * (width * y + x) + 1], width - 1 - x);
        EXPECT_EQ(image.pixels[3 * (width * y + x) + 2], 7);
      }
    }
  }
}

TEST(RandomHorizontalFlipTest, KeepsItsProbability) {
  const Image image = CoordinateImage(1, 2);
  const auto share = [&image](const Transform& flip) {
    int flipped = 0;
    for (uint64_t key = 0; key < 4000; ++key) flipped += Transformed(flip, image, key) != image;
    return flipped / 4000.0;
  };
  EXPECT_EQ(share(*Make(0)), 0);
  EXPECT_NEAR(share(*Make(0.25)), 0.25, 0.04);
  EXPECT_NEAR(share(**MakeTransform(RandomHorizontalFlip())), 0.5, 0.05);
}

TEST(RandomHorizontalFlipTest, RejectsABadProbability) {
  RandomHorizontalFlip config;
  config.set_probability(1.1);
  EXPECT_THAT(ConfigError(config), HasSubstr("probability: must be in [0, 1], found 1.1"));
}

}  // namespace
}  // namespace graticule
