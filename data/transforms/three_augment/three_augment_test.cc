#include "data/transforms/three_augment/three_augment.h"

#include "data/transforms/blur.h"
#include "data/transforms/colors.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

TEST(ThreeAugmentTest, IsOneOfThreeEachAsLikely) {
  const Image picture = TestImage("picture");
  Image grey = picture, solarized = picture;
  ToGrey(grey);
  Solarize(solarized, 128);
  const auto transform = *MakeTransform(ThreeAugment());
  int greys = 0, solarizations = 0, blurs = 0;
  for (uint64_t key = 0; key < 900; ++key) {
    const Image image = Transformed(*transform, picture, key);
    greys += image == grey;
    solarizations += image == solarized;
    if (image == grey || image == solarized) continue;
    Draws draws({key});
    draws();
    draws();
    Image blurred = picture;
    BlurGaussian(blurred, draws.Uniform(0.1, 2));
    blurs += image == blurred;
  }
  EXPECT_EQ(greys + solarizations + blurs, 900);
  // A share of 1/3 deviates by 14.
  EXPECT_NEAR(greys, 300, 57);
  EXPECT_NEAR(solarizations, 300, 57);
  EXPECT_NEAR(blurs, 300, 57);
}

TEST(ThreeAugmentTest, KeepsItsProbability) {
  const Image picture = TestImage("picture");
  ThreeAugment config;
  config.set_probability(0.25);
  const auto transform = *MakeTransform(config);
  int changed = 0;
  for (uint64_t key = 0; key < 1000; ++key) changed += Transformed(*transform, picture, key) != picture;
  // A blur of the least radius changes nothing.
  EXPECT_NEAR(changed, 245, 60);
}

TEST(ThreeAugmentTest, RejectsABadProbability) {
  ThreeAugment config;
  config.set_probability(-1);
  EXPECT_THAT(ConfigError(config), HasSubstr("probability: must be in [0, 1], found -1"));
}

}  // namespace
}  // namespace graticule
