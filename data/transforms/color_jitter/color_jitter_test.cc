#include "data/transforms/color_jitter/color_jitter.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "data/transforms/colors.h"
#include "data/transforms/hue.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

// Everything off.
ColorJitter Nothing() {
  ColorJitter config;
  config.add_brightness(0);
  config.add_contrast(0);
  config.add_saturation(0);
  return config;
}

void AddBoth(google::protobuf::RepeatedField<double>* field, double factor) {
  field->Clear();
  field->Add(factor);
  field->Add(factor);
}

TEST(ColorJitterTest, ItsStepsOneAfterTheOtherAreTorchvisions) {
  Image image = TestImage("picture");
  AdjustSaturation(image, 1.4);
  AdjustBrightness(image, 0.7);
  AdjustHue(image, 0.1);
  AdjustContrast(image, 1.3);
  EXPECT_LE(MaxDifference(image, TestImage("jittered")), 1);
}

TEST(ColorJitterTest, FixedFactorsComeInEveryOrder) {
  const Image picture = TestImage("picture");
  ColorJitter config;
  AddBoth(config.mutable_brightness(), 0.7);
  AddBoth(config.mutable_contrast(), 1.3);
  AddBoth(config.mutable_saturation(), 1.4);
  AddBoth(config.mutable_hue(), 0.1);
  const auto transform = *MakeTransform(config);
  std::vector<Image> expected;
  std::vector<int> order = {0, 1, 2, 3};
  do {
    Image image = picture;
    for (const int step : order) {
      if (step == 0) AdjustBrightness(image, 0.7);
      if (step == 1) AdjustContrast(image, 1.3);
      if (step == 2) AdjustSaturation(image, 1.4);
      if (step == 3) AdjustHue(image, 0.1);
    }
    expected.push_back(image);
  } while (std::next_permutation(order.begin(), order.end()));
  std::vector<int> counts(24);
  for (uint64_t key = 0; key < 1200; ++key) {
    const auto found = std::find(expected.begin(), expected.end(), Transformed(*transform, picture, key));
    ASSERT_NE(found, expected.end());
    ++counts[found - expected.begin()];
  }
  // Fifty each, which deviate by 7.
  for (const int count : counts) EXPECT_NEAR(count, 50, 30);
}

// The factors of many draws, each read off what becomes of a pixel under brightness alone.
TEST(ColorJitterTest, AStrengthIsTheHalfWidthOfAUniformRange) {
  for (const auto& [strength, low, high] :
       {std::tuple(0.4, 0.6, 1.4), std::tuple(0.1, 0.9, 1.1), std::tuple(1.5, 0.0, 2.5)}) {
    ColorJitter config = Nothing();
    config.set_brightness(0, strength);
    const auto transform = *MakeTransform(config);
    double sum = 0, sum2 = 0;
    for (uint64_t key = 0; key < 4000; ++key) {
      const double factor = Transformed(*transform, Image{1, 1, {100, 100, 100}}, key).pixels[0] / 100.0;
      EXPECT_GE(factor, low - 0.011);
      EXPECT_LE(factor, high + 0.001);
      sum += factor / 4000;
      sum2 += factor * factor / 4000;
    }
    // Truncation takes half a level off the mean.
    EXPECT_NEAR(sum, (low + high) / 2 - 0.005, 0.03) << strength;
    EXPECT_NEAR(sum2 - sum * sum, (high - low) * (high - low) / 12, 0.03 * (high - low)) << strength;
  }
}

TEST(ColorJitterTest, DefaultsAreTimms) {
  ColorJitter config;
  config.add_brightness(0.4);
  config.add_contrast(0.4);
  config.add_saturation(0.4);
  config.add_hue(0);
  config.set_probability(1);
  const auto spelt_out = *MakeTransform(config), by_default = *MakeTransform(ColorJitter());
  const Image picture = TestImage("picture");
  for (uint64_t key = 0; key < 20; ++key) {
    EXPECT_EQ(Transformed(*by_default, picture, key), Transformed(*spelt_out, picture, key));
    EXPECT_NE(Transformed(*by_default, picture, key), picture);
  }
}

TEST(ColorJitterTest, StrengthsOfZeroAndProbabilityZeroLeaveTheImage) {
  const Image picture = TestImage("picture");
  EXPECT_EQ(Transformed(**MakeTransform(Nothing()), picture), picture);
  ColorJitter never;
  never.set_probability(0);
  EXPECT_EQ(Transformed(**MakeTransform(never), picture), picture);
}

TEST(ColorJitterTest, RejectsBadConfigsAllAtOnce) {
  ColorJitter config;
  config.add_brightness(-0.1);
  config.add_contrast(1.2);
  config.add_contrast(0.8);
  config.add_saturation(1);
  config.add_saturation(2);
  config.add_saturation(3);
  config.add_hue(0.6);
  config.set_probability(1.5);
  const std::string error = ConfigError(config);
  EXPECT_THAT(error, HasSubstr("brightness: must be a strength in [0, 100] or two factors, found -0.1"));
  EXPECT_THAT(error, HasSubstr("contrast: must be two numbers in [0, 100], the lower first, found [1.2, 0.8]"));
  EXPECT_THAT(error, HasSubstr("saturation: must be two numbers in [0, 100], the lower first, found [1, 2, 3]"));
  EXPECT_THAT(error, HasSubstr("hue: must be a strength in [0, 0.5] or two factors, found 0.6"));
  EXPECT_THAT(error, HasSubstr("probability: must be in [0, 1], found 1.5"));
}

}  // namespace
}  // namespace graticule
