#include "data/transforms/blur.h"

#include <string>

#include "data/transforms/geometry.h"
#include "data/transforms/test_images.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

Image Blurred(Image image, double radius) {
  BlurGaussian(image, radius);
  return image;
}

TEST(BlurGaussianTest, IsPillows) {
  const Image picture = TestImage("picture");
  for (const char* radius : {"0.1", "0.7", "1.3", "2", "6.5"}) {
    const Image blurred = Blurred(picture, std::stod(radius));
    EXPECT_EQ(MaxDifference(blurred, TestImage(std::string("blur_") + radius)), 0) << radius;
  }
}

TEST(BlurGaussianTest, IsPillowsWhereTheFilterIsLargerThanTheImage) {
  EXPECT_EQ(MaxDifference(Blurred(Crop(TestImage("picture"), {0, 0, {3, 20}}), 5), TestImage("blur_strip")), 0);
}

TEST(BlurGaussianTest, HasTheVarianceOfTheGaussian) {
  Image point{101, 101, Pixels(3 * 101 * 101, 0)};
  // As bright as 8 bits allow, over 7x7 pixels, whose variance is (7² - 1) / 12 = 4.
  for (int y = 47; y <= 53; ++y) {
    for (int x = 47; x <= 53; ++x) point.pixels[3 * (101 * y + x) + 1] = 255;
  }
  for (const double radius : {1.5, 3.0}) {
    const Image blurred = Blurred(point, radius);
    double mass = 0, variance = 0;
    for (int y = 0; y < 101; ++y) {
      for (int x = 0; x < 101; ++x) {
        const uint8_t* const pixel = blurred.pixels.data() + 3 * (101 * y + x);
        EXPECT_EQ(pixel[0] + pixel[2], 0);
        mass += pixel[1];
        variance += pixel[1] * (y - 50.0) * (y - 50.0);
      }
    }
    EXPECT_NEAR(mass, 49 * 255, 0.02 * 49 * 255) << radius;
    EXPECT_NEAR(variance / mass, 4 + radius * radius, 0.05 * (4 + radius * radius)) << radius;
  }
}

TEST(BlurGaussianTest, LeavesPlainImagesAndSinglePixels) {
  for (const double radius : {0.0, 0.3, 4.0, kMaxBlurRadius}) {
    const Image plain{5, 9, Pixels(3 * 5 * 9, 255)};
    EXPECT_EQ(Blurred(plain, radius), plain) << radius;
    const Image pixel{1, 1, {3, 200, 77}};
    EXPECT_EQ(Blurred(pixel, radius), pixel) << radius;
  }
}

}  // namespace
}  // namespace graticule
