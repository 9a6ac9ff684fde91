#include "data/transforms/random_resized_crop/random_resized_crop.h"

#include <cmath>

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

constexpr Range kScale{0.08, 1};
constexpr Range kRatio{3.0 / 4, 4.0 / 3};

TEST(DrawWindowTest, AreaAndLogarithmOfTheRatioAreUniform) {
  // So wide an image and so small a scale that the first draw always fits.
  const Size2d image{4000, 4000};
  const Range scale{0.1, 0.5};
  constexpr int kDraws = 20000;
  double area = 0, area2 = 0, log_ratio = 0, log_ratio2 = 0, top = 0;
  for (uint64_t key = 0; key < kDraws; ++key) {
    Draws draws({key});
    const Box box = DrawWindow(image, scale, kRatio, draws);
    const double share = static_cast<double>(box.size.area()) / static_cast<double>(image.area());
    const double ratio = std::log(static_cast<double>(box.size.width) / static_cast<double>(box.size.height));
    ASSERT_GE(share, 0.0999);
    ASSERT_LE(share, 0.5001);
    ASSERT_LE(std::abs(ratio), std::log(4.0 / 3) + 0.001);
    ASSERT_LE(box.top + box.size.height, image.height);
    ASSERT_LE(box.left + box.size.width, image.width);
    area += share / kDraws;
    area2 += share * share / kDraws;
    log_ratio += ratio / kDraws;
    log_ratio2 += ratio * ratio / kDraws;
    top += static_cast<double>(box.top) / static_cast<double>(image.height - box.size.height) / kDraws;
  }
  // Mean and variance of a uniform variable on [a, b]: (a+b)/2 and (b-a)²/12.
  EXPECT_NEAR(area, 0.3, 0.005);
  EXPECT_NEAR(area2 - area * area, 0.4 * 0.4 / 12, 0.0005);
  EXPECT_NEAR(log_ratio, 0, 0.01);
  EXPECT_NEAR(log_ratio2, std::pow(2 * std::log(4.0 / 3), 2) / 12, 0.002);
  EXPECT_NEAR(top, 0.5, 0.02);
}

TEST(DrawWindowTest, LiesInsideOfEveryImage) {
  for (int64_t height = 1; height < 30; ++height) {
    for (int64_t width = 1; width < 30; ++width) {
      Draws draws({static_cast<uint64_t>(height), static_cast<uint64_t>(width)});
      const Box box = DrawWindow({height, width}, kScale, kRatio, draws);
      EXPECT_GE(box.top, 0);
      EXPECT_GE(box.left, 0);
      EXPECT_GE(box.size.height, 1);
      EXPECT_GE(box.size.width, 1);
      EXPECT_LE(box.top + box.size.height, height);
      EXPECT_LE(box.left + box.size.width, width);
    }
  }
}

TEST(DrawWindowTest, FallsBackToTheMiddle) {
  // The whole area of a long image at these ratios never fits.
  Draws draws({1});
  EXPECT_EQ(DrawWindow({100, 1000}, {1, 1}, kRatio, draws), (Box{0, 433, {100, 133}}));
  EXPECT_EQ(DrawWindow({1000, 100}, {1, 1}, kRatio, draws), (Box{433, 0, {133, 100}}));
  EXPECT_EQ(DrawWindow({1, 5000}, {1, 1}, {0.75, 0.75}, draws).size, (Size2d{1, 1}));
}

TEST(RandomResizedCropTest, ResizesItsWindow) {
  const Image picture = TestImage("picture");
  for (const Interpolation interpolation : {BILINEAR, BICUBIC}) {
    RandomResizedCrop config;
    config.add_size(24);
    config.add_size(32);
    config.set_interpolation(interpolation);
    Draws draws({9});
    const Box box = DrawWindow({61, 97}, kScale, kRatio, draws);
    EXPECT_EQ(Transformed(**MakeTransform(config), picture, 9), ResizedCrop(picture, box, {24, 32}, interpolation));
  }
}

TEST(RandomResizedCropTest, DefaultsToTheImageSizeAndBicubic) {
  RandomResizedCrop config;
  config.set_interpolation(BICUBIC);
  config.add_size(40);
  for (const double bound : {0.08, 1.0}) config.add_scale(bound);
  for (const double bound : {3.0 / 4, 4.0 / 3}) config.add_ratio(bound);
  EXPECT_EQ(Transformed(**MakeTransform(RandomResizedCrop(), {40, 40}), TestImage("picture")),
            Transformed(**MakeTransform(config), TestImage("picture")));
}

TEST(RandomResizedCropTest, MayDrawItsFilter) {
  const Image picture = TestImage("picture");
  RandomResizedCrop config;
  config.add_size(24);
  const auto with = [&config](Interpolation interpolation) {
    config.set_interpolation(interpolation);
    return *MakeTransform(config);
  };
  const auto random = with(RANDOM), bilinear = with(BILINEAR), bicubic = with(BICUBIC);
  int bilinears = 0;
  for (uint64_t key = 0; key < 400; ++key) {
    const Image image = Transformed(*random, picture, key);
    const bool is_bilinear = image == Transformed(*bilinear, picture, key);
    EXPECT_TRUE(is_bilinear || image == Transformed(*bicubic, picture, key));
    bilinears += is_bilinear;
  }
  EXPECT_NEAR(bilinears, 200, 4 * 10);
}

TEST(RandomResizedCropTest, MayGiveUpAntialiasing) {
  RandomResizedCrop config;
  config.add_size(24);
  config.set_antialias(false);
  Draws draws({9});
  const Box box = DrawWindow({61, 97}, kScale, kRatio, draws);
  const Image picture = TestImage("picture");
  EXPECT_EQ(Transformed(**MakeTransform(config), picture, 9), ResizedCrop(picture, box, {24, 24}, BICUBIC, false));
}

TEST(RandomResizedCropTest, RejectsBadConfigs) {
  RandomResizedCrop config;
  config.add_scale(0.5);
  config.add_ratio(2);
  config.add_ratio(1);
  config.add_size(0);
  EXPECT_THAT(ConfigError(config),
              HasSubstr("scale: must be two numbers in [0.0001, 1], the lower first, found [0.5]"));
  EXPECT_THAT(ConfigError(config),
              HasSubstr("ratio: must be two numbers in [0.001, 1000], the lower first, found [2, 1]"));
  EXPECT_THAT(ConfigError(config), HasSubstr("size: "));
  config.add_scale(1.01);
  EXPECT_THAT(ConfigError(config), HasSubstr("found [0.5, 1.01]"));
}

}  // namespace
}  // namespace graticule
