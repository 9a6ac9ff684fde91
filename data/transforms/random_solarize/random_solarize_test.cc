#include "data/transforms/random_solarize/random_solarize.h"

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

Image Solarized(Image image, int threshold) {
  for (uint8_t& value : image.pixels) value = value < threshold ? value : 255 - value;
  return image;
}

TEST(RandomSolarizeTest, InvertsFromTheThresholdByItsProbability) {
  const Image picture = TestImage("picture");
  const auto share = [&](const Transform& transform, int threshold) {
    const Image solarized = Solarized(picture, threshold);
    int changed = 0;
    for (uint64_t key = 0; key < 1000; ++key) {
      const Image image = Transformed(transform, picture, key);
      EXPECT_TRUE(image == picture || image == solarized);
      changed += image == solarized;
    }
    return changed / 1000.0;
  };
  RandomSolarize config;
  EXPECT_NEAR(share(**MakeTransform(config), 128), 0.5, 0.06);
  config.set_probability(0.2);
  config.set_threshold(200);
  EXPECT_NEAR(share(**MakeTransform(config), 200), 0.2, 0.05);
}

TEST(RandomSolarizeTest, ThresholdsAtTheEnds) {
  const Image picture = TestImage("picture");
  RandomSolarize config;
  config.set_probability(1);
  for (const int threshold : {0, 256}) {
    config.set_threshold(threshold);
    EXPECT_EQ(Transformed(**MakeTransform(config), picture), Solarized(picture, threshold));
  }
}

TEST(RandomSolarizeTest, RejectsBadConfigs) {
  RandomSolarize config;
  config.set_probability(-0.1);
  config.set_threshold(257);
  EXPECT_THAT(ConfigError(config), HasSubstr("probability: must be in [0, 1], found -0.1"));
  EXPECT_THAT(ConfigError(config), HasSubstr("threshold: must be in [0, 256], found 257"));
}

}  // namespace
}  // namespace graticule
