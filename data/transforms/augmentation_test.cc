#include "data/transforms/augmentation.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <string>

#include "data/transforms/geometry.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

// timm's results, by tools/parity/make_auto_augment_fixtures.py. Operations on colours give the same bits; resampled
// images may differ by one level.
TEST(AugmentationTest, OperationsAreTimms) {
  const Image picture = TestImage("picture");
  std::ifstream index("data/transforms/testdata/augmentation.tsv");
  std::string strip, name, interpolation;
  double level;
  int sign, lines = 0;
  int64_t left, width;
  std::map<std::string, int64_t> tops;
  while (index >> strip >> name >> level >> sign >> interpolation >> left >> width) {
    SCOPED_TRACE(name + " at " + std::to_string(level));
    int64_t& top = tops[strip];
    const Image expected = Crop(TestImage(strip), {top, 0, {picture.height, width}});
    top += picture.height;
    OperationArguments arguments{.level = level, .negative = sign < 0, .uniform = 0.25, .fill = {124, 116, 104}};
    ASSERT_TRUE(Interpolation_Parse(interpolation, &arguments.interpolation));
    Image image = Crop(picture, {0, left, {picture.height, width}});
    FindOperation(name)(arguments, image);
    EXPECT_LE(MaxDifference(image, expected), strip == "augmentation_affine" ? 1 : 0);
    ++lines;
  }
  EXPECT_EQ(lines, 32);
}

TEST(AugmentationTest, LevelsFarBeyondTheUsualAreHarmless) {
  for (const char* name :
       {"Posterize", "PosterizeIncreasing", "PosterizeOriginal", "Solarize", "SolarizeIncreasing", "SolarizeAdd",
        "ColorIncreasing", "Desaturate", "GaussianBlur", "GaussianBlurRand", "Rotate", "ShearX", "TranslateYRel"}) {
    for (const bool negative : {false, true}) {
      Image image = TestImage("picture");
      FindOperation(name)({.level = kMaxMagnitude, .negative = negative, .uniform = 0.999}, image);
      EXPECT_EQ(image.size(), TestImage("picture").size());
    }
  }
}

struct Moments {
  double mean = 0, deviation = 0, lowest = 1e9, highest = -1e9;
};

Moments OfLevels(double magnitude, const AugmentationSettings& settings) {
  constexpr int kDraws = 20000;
  Moments moments;
  Draws draws({3});
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double level = DrawLevel(magnitude, settings, draws);
    moments.mean += level / kDraws;
    squares += level * level / kDraws;
    moments.lowest = std::min(moments.lowest, level);
    moments.highest = std::max(moments.highest, level);
  }
  moments.deviation = std::sqrt(std::max(0.0, squares - moments.mean * moments.mean));
  return moments;
}

TEST(AugmentationTest, MagnitudesAreNormalUniformOrFixed) {
  const Moments normal = OfLevels(5, {.magnitude_deviation = 0.5});
  EXPECT_NEAR(normal.mean, 5, 0.02);
  EXPECT_NEAR(normal.deviation, 0.5, 0.01);
  EXPECT_GT(normal.highest, 6.5);

  const Moments uniform = OfLevels(8, {.magnitude_deviation = std::numeric_limits<double>::infinity()});
  EXPECT_NEAR(uniform.mean, 4, 0.05);
  EXPECT_NEAR(uniform.deviation, 8 / std::sqrt(12), 0.03);
  EXPECT_GE(uniform.lowest, 0);
  EXPECT_LE(uniform.highest, 8);

  const Moments fixed = OfLevels(7, {});
  EXPECT_EQ(fixed.lowest, 7);
  EXPECT_EQ(fixed.highest, 7);
}

TEST(AugmentationTest, MagnitudesAreClipped) {
  const Moments wide = OfLevels(9, {.magnitude_deviation = 20});
  EXPECT_EQ(wide.lowest, 0);
  EXPECT_EQ(wide.highest, 10);
  const Moments further = OfLevels(15, {.magnitude_deviation = 5, .max_magnitude = 20});
  EXPECT_EQ(further.highest, 20);
  EXPECT_EQ(OfLevels(15, {}).lowest, 10);
}

TEST(AugmentationTest, AppliesWithItsProbability) {
  const Image row{1, 1, {10, 20, 30}};
  int changed = 0;
  for (uint64_t key = 0; key < 4000; ++key) {
    Image image = row;
    Draws draws({key});
    Augment({"Invert", 0.3, 10}, {}, image, draws);
    changed += image != row;
  }
  EXPECT_NEAR(changed / 4000.0, 0.3, 0.03);
  Image image = row;
  Draws draws({1});
  Augment({"Invert", 0, 10}, {}, image, draws);
  EXPECT_EQ(image, row);
}

TEST(AugmentationTest, SidesAndInterpolationsAreDrawn) {
  // Which of the four images a shear gives.
  const Image picture = TestImage("center_32x32");
  std::map<std::pair<bool, Interpolation>, int> counts;
  constexpr int kDraws = 400;
  for (uint64_t key = 0; key < kDraws; ++key) {
    Image image = picture;
    Draws draws({key});
    Augment({"ShearX", 1, 5}, {.interpolation = RANDOM}, image, draws);
    for (const bool negative : {false, true}) {
      for (const Interpolation interpolation : {BILINEAR, BICUBIC}) {
        Image expected = picture;
        FindOperation("ShearX")({.level = 5, .negative = negative, .interpolation = interpolation}, expected);
        if (image == expected) ++counts[{negative, interpolation}];
      }
    }
  }
  ASSERT_EQ(counts.size(), 4);
  for (const auto& [which, count] : counts) EXPECT_NEAR(count, kDraws / 4, 40);
}

TEST(PolicyStringTest, ReadsSections) {
  FieldErrors errors;
  const PolicyString policy("rand-mstd0.5-m9-tweights", {"m", "mstd", "t", "n"}, errors);
  EXPECT_EQ(policy.name(), "rand");
  EXPECT_EQ(policy.WholeNumber("m", 0, 10, 3), 9);
  EXPECT_EQ(policy.WholeNumber("n", 0, 10, 3), 3);
  EXPECT_EQ(policy.MagnitudeDeviation(), 0.5);
  EXPECT_EQ(policy.Choice("t", {"weights"}), "weights");
  EXPECT_TRUE(errors.empty());
}

TEST(PolicyStringTest, InfiniteDeviations) {
  for (const char* text : {"rand-mstd101", "rand-mstdinf"}) {
    FieldErrors errors;
    EXPECT_TRUE(std::isinf(PolicyString(text, {"mstd"}, errors).MagnitudeDeviation())) << text;
    EXPECT_TRUE(errors.empty());
  }
}

TEST(PolicyStringTest, NamesWhatIsWrong) {
  FieldErrors errors;
  const PolicyString policy("rand-q3-msd0.5-m-m7-n2.5-p1.5-tweight-mstdnan-", {"m", "n", "p", "mstd", "t"}, errors);
  policy.WholeNumber("m", 0, 10, 3);
  policy.WholeNumber("n", 1, 10, 3);
  policy.Number("p", 0, 1, 0.5);
  policy.Choice("t", {"weights", "3a"});
  policy.MagnitudeDeviation();
  const std::string message(errors.ToStatus().message());
  for (const char* part :
       {"policy: ", "section 'q3' does not begin with one of m, n, p, mstd, t",
        "section 'msd0.5' does not begin with one of m, n, p, mstd, t; did you mean 'mstd'?", "says m twice",
        "needs a whole number from 0 to 10 after m, found ''", "needs a whole number from 1 to 10 after n, found '2.5'",
        "needs a number from 0 to 1 after p, found '1.5'",
        "needs one of weights, 3a after t, found 'weight'; did you mean 'weights'?", "section 'mstdnan' does not",
        "section '' does not begin"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
}

}  // namespace
}  // namespace graticule
