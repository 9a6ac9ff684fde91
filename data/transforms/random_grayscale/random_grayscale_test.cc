#include "data/transforms/random_grayscale/random_grayscale.h"

#include "data/transforms/colors.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

TEST(RandomGrayscaleTest, IsGreyByItsProbability) {
  const Image picture = TestImage("picture");
  Image grey = picture;
  ToGrey(grey);
  // ITU-R 601's luma of the first pixel.
  EXPECT_NEAR(grey.pixels[0], 0.299 * picture.pixels[0] + 0.587 * picture.pixels[1] + 0.114 * picture.pixels[2], 0.501);
  const auto share = [&](const Transform& transform) {
    int greys = 0;
    for (uint64_t key = 0; key < 1000; ++key) {
      const Image image = Transformed(transform, picture, key);
      EXPECT_TRUE(image == picture || image == grey);
      greys += image == grey;
    }
    return greys / 1000.0;
  };
  RandomGrayscale config;
  EXPECT_NEAR(share(**MakeTransform(config)), 0.1, 0.04);
  config.set_probability(0.6);
  EXPECT_NEAR(share(**MakeTransform(config)), 0.6, 0.06);
  config.set_probability(1);
  EXPECT_EQ(share(**MakeTransform(config)), 1);
}

TEST(RandomGrayscaleTest, RejectsABadProbability) {
  RandomGrayscale config;
  config.set_probability(1.1);
  EXPECT_THAT(ConfigError(config), HasSubstr("probability: must be in [0, 1], found 1.1"));
}

}  // namespace
}  // namespace graticule
