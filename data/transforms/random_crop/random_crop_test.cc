#include "data/transforms/random_crop/random_crop.h"

#include <set>
#include <utility>

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Transform> Make(int32_t size, int32_t padding) {
  RandomCrop config;
  config.add_size(size);
  config.set_padding(padding);
  return *MakeTransform(config);
}

// Each channel holds a coordinate, plus one where it is not padding.
Image Marked(int64_t side) {
  Image image = CoordinateImage(side, side);
  for (uint8_t& value : image.pixels) ++value;
  return image;
}

TEST(RandomCropTest, EveryOffsetComesAndTheRestIsBlack) {
  const std::unique_ptr<Transform> crop = Make(8, 2);
  std::set<std::pair<int, int>> offsets;
  for (uint64_t key = 0; key < 1000; ++key) {
    const Image image = Transformed(*crop, Marked(8), key);
    ASSERT_EQ(image.height, 8);
    ASSERT_EQ(image.width, 8);
    // Pixel (4, 4) is always of the image; it tells the offset, and all others must agree.
    const int down = image.pixels[3 * (8 * 4 + 4)] - 5, right = image.pixels[3 * (8 * 4 + 4) + 1] - 5;
    offsets.insert({down, right});
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 8; ++x) {
        const bool inside = y + down >= 0 && y + down < 8 && x + right >= 0 && x + right < 8;
        EXPECT_EQ(image.pixels[3 * (8 * y + x)], inside ? y + down + 1 : 0);
        EXPECT_EQ(image.pixels[3 * (8 * y + x) + 1], inside ? x + right + 1 : 0);
      }
    }
  }
  EXPECT_EQ(offsets.size(), 25u);
  EXPECT_EQ(offsets.begin()->first, -2);
  EXPECT_EQ(offsets.rbegin()->first, 2);
}

TEST(RandomCropTest, WithoutPaddingCutsALargerImage) {
  const std::unique_ptr<Transform> crop = Make(5, 0);
  std::set<int> tops;
  for (uint64_t key = 0; key < 200; ++key) tops.insert(Transformed(*crop, CoordinateImage(7, 9), key).pixels[0]);
  EXPECT_EQ(tops, (std::set<int>{0, 1, 2}));
}

TEST(RandomCropTest, PadsAnImageThatIsTooSmall) {
  const Image image = Transformed(*Make(10, 1), Marked(5));
  EXPECT_EQ(image.height, 10);
  EXPECT_EQ(image.width, 10);
}

TEST(RandomCropTest, DefaultsToTheImageSize) {
  EXPECT_EQ(Transformed(**MakeTransform(RandomCrop(), {6, 4}), CoordinateImage(20, 20)).pixels.size(), 3u * 6 * 4);
}

TEST(RandomCropTest, RejectsBadConfigs) {
  RandomCrop config;
  config.set_padding(-1);
  config.add_size(0);
  EXPECT_THAT(ConfigError(config), HasSubstr("padding: must not be negative, found -1"));
  EXPECT_THAT(ConfigError(config), HasSubstr("size: must be"));
}

}  // namespace
}  // namespace graticule
