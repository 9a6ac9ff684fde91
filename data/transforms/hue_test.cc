#include "data/transforms/hue.h"

#include <string>

#include "data/transforms/test_images.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

Image Turned(Image image, double factor) {
  AdjustHue(image, factor);
  return image;
}

TEST(AdjustHueTest, IsTorchvisionsOnPillowImages) {
  for (const char* factor : {"-0.5", "-0.21", "0.004", "0.1", "0.37"}) {
    EXPECT_EQ(MaxDifference(Turned(TestImage("colors"), std::stod(factor)), TestImage(std::string("hue_") + factor)), 0)
        << factor;
  }
}

TEST(AdjustHueTest, AThirdOfTheCircleMovesPrimaryColours) {
  // 85 of 255 steps: red becomes green, green blue, blue red.
  const Image primaries{1, 3, {200, 0, 0, 0, 200, 0, 0, 0, 200}};
  EXPECT_EQ(Turned(primaries, 1 / 3.0), (Image{1, 3, {0, 200, 0, 0, 0, 200, 200, 0, 0}}));
}

TEST(AdjustHueTest, LeavesGreys) {
  Image greys{1, 256, {}};
  for (int i = 0; i < 256; ++i) greys.pixels.insert(greys.pixels.end(), 3, static_cast<uint8_t>(i));
  EXPECT_EQ(Turned(greys, 0.3), greys);
}

}  // namespace
}  // namespace graticule
