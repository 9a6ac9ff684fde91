#include "data/transforms/center_crop/center_crop.h"

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

// Cuts, pads, and both: the picture is 61×97.
TEST(CenterCropTest, IsTorchvisions) {
  const Image picture = TestImage("picture");
  for (const auto& [height, width] : {std::pair{32, 32}, {35, 36}, {61, 97}, {80, 80}, {20, 130}, {90, 121}}) {
    CenterCrop config;
    config.add_size(height);
    config.add_size(width);
    const auto crop = MakeTransform(config);
    ASSERT_TRUE(crop.ok()) << crop.status();
    const std::string name = "center_" + std::to_string(height) + "x" + std::to_string(width);
    EXPECT_EQ(MaxDifference(Transformed(**crop, picture), TestImage(name)), 0) << name;
  }
}

TEST(CenterCropTest, DefaultsToTheImageSize) {
  EXPECT_EQ(Transformed(**MakeTransform(CenterCrop()), TestImage("picture")), TestImage("center_32x32"));
}

TEST(CenterCropTest, RejectsABadSize) {
  CenterCrop config;
  config.add_size(0);
  EXPECT_THAT(ConfigError(config), HasSubstr("size: must be a height and a width"));
}

}  // namespace
}  // namespace graticule
