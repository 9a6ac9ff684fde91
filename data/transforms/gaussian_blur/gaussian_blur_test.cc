#include "data/transforms/gaussian_blur/gaussian_blur.h"

#include "data/transforms/blur.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

TEST(GaussianBlurTest, DrawsWhetherAndThenTheRadius) {
  const Image picture = TestImage("picture");
  GaussianBlur config;
  config.set_probability(0.5);
  config.add_radius(1);
  config.add_radius(3);
  const auto transform = *MakeTransform(config);
  int blurred = 0;
  for (uint64_t key = 0; key < 200; ++key) {
    Image expected = picture;
    Draws draws({key});
    if (draws.Bernoulli(0.5)) {
      BlurGaussian(expected, draws.Uniform(1, 3));
      ++blurred;
    }
    EXPECT_EQ(Transformed(*transform, picture, key), expected);
  }
  EXPECT_NEAR(blurred, 100, 35);
}

TEST(GaussianBlurTest, DefaultsAreDeits) {
  GaussianBlur config;
  config.set_probability(0.1);
  config.add_radius(0.1);
  config.add_radius(2);
  const auto spelt_out = *MakeTransform(config), by_default = *MakeTransform(GaussianBlur());
  const Image picture = TestImage("picture");
  for (uint64_t key = 0; key < 60; ++key) {
    EXPECT_EQ(Transformed(*by_default, picture, key), Transformed(*spelt_out, picture, key));
  }
}

TEST(GaussianBlurTest, RejectsBadConfigs) {
  GaussianBlur config;
  config.set_probability(2);
  config.add_radius(2);
  config.add_radius(101);
  EXPECT_THAT(ConfigError(config), HasSubstr("probability: must be in [0, 1], found 2"));
  EXPECT_THAT(ConfigError(config),
              HasSubstr("radius: must be two numbers in [0, 100], the lower first, found [2, 101]"));
  config.clear_radius();
  config.add_radius(2);
  EXPECT_THAT(ConfigError(config), HasSubstr("found [2]"));
}

}  // namespace
}  // namespace graticule
