#include "data/transforms/resize/resize.h"

#include "data/transforms/geometry.h"
#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

Resize Config(int32_t size, Interpolation interpolation) {
  Resize config;
  if (size > 0) config.add_size(size);
  config.set_interpolation(interpolation);
  return config;
}

Image Transposed(const Image& image) {
  Image result{image.width, image.height, {}};
  for (int64_t y = 0; y < result.height; ++y) {
    for (int64_t x = 0; x < result.width; ++x) {
      const auto pixel = image.pixels.begin() + 3 * (x * image.width + y);
      result.pixels.insert(result.pixels.end(), pixel, pixel + 3);
    }
  }
  return result;
}

TEST(ResizeTest, IsTorchvisionsOnPillow) {
  const Image picture = TestImage("picture");
  for (const auto& [name, interpolation] : {std::pair{"bilinear", BILINEAR}, std::pair{"bicubic", BICUBIC}}) {
    const auto resize = MakeTransform(Config(36, interpolation));
    ASSERT_TRUE(resize.ok()) << resize.status();
    EXPECT_LE(MaxDifference(Transformed(**resize, picture), TestImage(std::string(name) + "_shorter_36")), 1);
    EXPECT_LE(
        MaxDifference(Transformed(**resize, Transposed(picture)), TestImage(std::string(name) + "_tall_shorter_36")),
        1);
  }
}

TEST(ResizeTest, DefaultsToTheImageSizeOverTheCropShareAndBicubic) {
  // 32 / 0.875 = 36.57, rounded down.
  EXPECT_EQ(Transformed(**MakeTransform(Resize()), TestImage("picture")),
            Transformed(**MakeTransform(Config(36, BICUBIC)), TestImage("picture")));
  Resize whole;
  whole.set_crop_pct(1);
  EXPECT_EQ(Transformed(**MakeTransform(whole), TestImage("picture")).height, 32);
  // 224 / 0.875 and 256, the classic evaluation.
  EXPECT_EQ(Transformed(**MakeTransform(Resize(), {224, 224}), CoordinateImage(375, 500)).height, 256);
}

TEST(ResizeTest, DescribesItselfAsTimmDoes) {
  const auto described = [](const Resize& config) {
    Preprocessing preprocessing;
    (**MakeTransform(config, {224, 224})).Describe(preprocessing);
    return preprocessing;
  };
  Resize share;
  share.set_crop_pct(0.9);
  share.set_interpolation(BILINEAR);
  EXPECT_EQ(described(share).crop_pct, 0.9);
  EXPECT_EQ(described(share).interpolation, "bilinear");
  EXPECT_EQ(described(Config(256, BICUBIC)).crop_pct, 0.875);
  EXPECT_EQ(described(Resize()).interpolation, "bicubic");
  EXPECT_EQ(described(Resize()).crop_mode, "center");
  Resize squash;
  squash.set_squash(true);
  EXPECT_EQ(described(squash).crop_mode, "squash");
}

TEST(ResizeTest, SquashesBothSides) {
  Resize config = Config(45, BILINEAR);
  config.add_size(60);
  config.set_squash(true);
  EXPECT_LE(MaxDifference(Transformed(**MakeTransform(config), TestImage("picture")), TestImage("bilinear_45x60")), 1);
}

TEST(ResizeTest, MayGiveUpAntialiasing) {
  Resize config = Config(36, BICUBIC);
  config.set_antialias(false);
  const Image picture = TestImage("picture");
  EXPECT_EQ(Transformed(**MakeTransform(config), picture),
            ResizedCrop(picture, {0, 0, picture.size()}, {36, 57}, BICUBIC, false));
}

TEST(ResizeTest, LeavesAnImageOfTheSizeAlone) {
  const Image image = CoordinateImage(36, 50);
  EXPECT_EQ(Transformed(**MakeTransform(Config(36, BILINEAR)), image), image);
}

TEST(ResizeTest, RefusesAHugeTarget) {
  Resize config;
  config.set_crop_pct(0.01);
  EXPECT_TRUE(MakeTransform(config, {81, 81}).ok());
  EXPECT_THAT(std::string(MakeTransform(config, {82, 82}).status().message()),
              HasSubstr("crop_pct: asks for 8200x8200, more than 67108864 pixels"));
  const Size2d most{2147483647, 2147483647};
  EXPECT_THAT(std::string(MakeTransform(config, most).status().message()), HasSubstr("crop_pct: asks for"));
}

TEST(ResizeTest, RejectsBadConfigs) {
  Resize config;
  config.set_crop_pct(0);
  EXPECT_THAT(ConfigError(config), HasSubstr("crop_pct: must be in [0.01, 1], found 0"));
  config.set_crop_pct(1e-300);
  EXPECT_THAT(ConfigError(config), HasSubstr("crop_pct: must be in [0.01, 1], found 1e-300"));
  config.set_interpolation(RANDOM);
  EXPECT_THAT(ConfigError(config), HasSubstr("interpolation: RANDOM is for RandomResizedCrop"));
  config.set_crop_pct(1.5);
  config.add_size(-3);
  EXPECT_THAT(ConfigError(config), HasSubstr("found 1.5"));
  EXPECT_THAT(ConfigError(config), HasSubstr("size: must be a height and a width"));
  config.set_crop_pct(0.9);
  EXPECT_THAT(ConfigError(config), HasSubstr("crop_pct: has no effect beside size"));
}

}  // namespace
}  // namespace graticule
