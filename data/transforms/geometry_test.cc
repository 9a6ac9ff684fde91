#include "data/transforms/geometry.h"

#include <stdexcept>
#include <utility>

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

TEST(CropTest, TakesTheBox) {
  const Image crop = Crop(CoordinateImage(5, 6), {1, 2, {3, 4}});
  ASSERT_EQ(crop.pixels.size(), 3u * 3 * 4);
  for (int64_t y = 0; y < 3; ++y) {
    for (int64_t x = 0; x < 4; ++x) {
      EXPECT_EQ(crop.pixels[3 * (4 * y + x)], y + 1);
      EXPECT_EQ(crop.pixels[3 * (4 * y + x) + 1], x + 2);
    }
  }
}

TEST(CropTest, IsBlackOutsideOfTheImage) {
  const Image image = CoordinateImage(4, 3);
  for (int64_t top = -9; top < 6; ++top) {
    for (int64_t left = -9; left < 6; ++left) {
      const Size2d size{5, 6};
      const Image crop = Crop(image, {top, left, size});
      ASSERT_EQ(crop.pixels.size(), 3u * 5 * 6);
      for (int64_t y = 0; y < size.height; ++y) {
        for (int64_t x = 0; x < size.width; ++x) {
          const int64_t from_y = top + y, from_x = left + x;
          const bool inside = from_y >= 0 && from_y < 4 && from_x >= 0 && from_x < 3;
          const uint8_t* pixel = crop.pixels.data() + 3 * (size.width * y + x);
          EXPECT_EQ(pixel[0], inside ? from_y : 0);
          EXPECT_EQ(pixel[1], inside ? from_x : 0);
          EXPECT_EQ(pixel[2], inside ? 7 : 0);
        }
      }
    }
  }
}

struct ResampleCase {
  const char* name;
  Box box;
  Size2d size;
};

class ResampleTest : public ::testing::TestWithParam<ResampleCase> {};

// Pillow computes in fixed point too, but with other precisions: one level is rounding.
TEST_P(ResampleTest, IsPillows) {
  const auto& [name, box, size] = GetParam();
  const Image picture = TestImage("picture");
  EXPECT_LE(MaxDifference(ResizedCrop(picture, box, size, BILINEAR), TestImage(std::string("bilinear_") + name)), 1);
  EXPECT_LE(MaxDifference(ResizedCrop(picture, box, size, BICUBIC), TestImage(std::string("bicubic_") + name)), 1);
  EXPECT_EQ(ResizedCrop(picture, box, size, INTERPOLATION_UNSPECIFIED), ResizedCrop(picture, box, size, BICUBIC));
}

// LibTorch's own results, by way of torchvision.
TEST(ResizedCropTest, WithoutAntialiasingIsTorchvisionsOf8BitTensors) {
  const Image picture = TestImage("picture");
  const Box box{11, 23, {37, 41}};
  for (const auto& [name, interpolation] : {std::pair("bilinear", BILINEAR), std::pair("bicubic", BICUBIC)}) {
    const Image plain = ResizedCrop(picture, box, {24, 32}, interpolation, /*antialias=*/false);
    EXPECT_EQ(MaxDifference(plain, TestImage(std::string(name) + "_plain_24x32")), 0);
    EXPECT_GT(MaxDifference(plain, TestImage(std::string(name) + "_window_24x32")), 10);
  }
}

constexpr Size2d kPicture{61, 97};
INSTANTIATE_TEST_SUITE_P(Sizes, ResampleTest,
                         ::testing::Values(ResampleCase{"32x32", {0, 0, kPicture}, {32, 32}},
                                           ResampleCase{"20x97", {0, 0, kPicture}, {20, 97}},
                                           ResampleCase{"61x11", {0, 0, kPicture}, {61, 11}},
                                           ResampleCase{"90x140", {0, 0, kPicture}, {90, 140}},
                                           ResampleCase{"45x60", {0, 0, kPicture}, {45, 60}},
                                           ResampleCase{"window_24x32", {11, 23, {37, 41}}, {24, 32}}));

TEST(ResizedCropTest, OfTheSameSizeIsTheCrop) {
  const Image picture = TestImage("picture");
  const Box box{3, 5, {20, 30}};
  EXPECT_EQ(ResizedCrop(picture, box, box.size, BICUBIC), Crop(picture, box));
}

TEST(ResizedCropTest, WholeRowsNeedNoCopyAndGiveTheSame) {
  const Image picture = TestImage("picture");
  const Box rows{13, 0, {30, kPicture.width}};
  const Image cut = Crop(picture, rows);
  EXPECT_EQ(ResizedCrop(picture, rows, {16, 24}, BILINEAR), ResizedCrop(cut, {0, 0, rows.size}, {16, 24}, BILINEAR));
}

TEST(ResizedCropTest, WorksOnSinglePixelsRowsAndColumns) {
  const Image pixel{1, 1, {10, 200, 30}};
  const Image grown = ResizedCrop(pixel, {0, 0, {1, 1}}, {3, 2}, BICUBIC);
  ASSERT_EQ(grown.pixels.size(), 18u);
  for (size_t i = 0; i < grown.pixels.size(); ++i) EXPECT_EQ(grown.pixels[i], pixel.pixels[i % 3]);
  const Image row = CoordinateImage(1, 9);
  EXPECT_EQ(ResizedCrop(row, {0, 0, {1, 9}}, {1, 3}, BILINEAR).pixels[4], 4);
  EXPECT_EQ(ResizedCrop(CoordinateImage(9, 1), {0, 0, {9, 1}}, {3, 1}, BILINEAR).pixels[3], 4);
}

TEST(ResizedCropTest, RefusesAHugeResult) {
  const Image thin = CoordinateImage(1, 200);
  EXPECT_THROW(ResizedCrop(thin, {0, 0, {1, 200}}, {2000, 400000}, BICUBIC), std::exception);
  // One column more than 2^26 pixels, by rows and columns that are few.
  EXPECT_THROW(ResizedCrop(thin, {0, 0, {1, 200}}, {1, (1 << 26) + 1}, BILINEAR), std::exception);
}

Size2d FromField(std::initializer_list<int32_t> values, FieldErrors& errors) {
  return SizeFromField(google::protobuf::RepeatedField<int32_t>(values.begin(), values.end()), "size", {7, 8}, errors);
}

TEST(SizeFromFieldTest, TakesNoneOneOrTwo) {
  FieldErrors errors;
  EXPECT_EQ(FromField({}, errors), (Size2d{7, 8}));
  EXPECT_EQ(FromField({5}, errors), (Size2d{5, 5}));
  EXPECT_EQ(FromField({5, 6}, errors), (Size2d{5, 6}));
  EXPECT_TRUE(errors.empty());
}

TEST(SizeFromFieldTest, NamesWhatItFound) {
  FieldErrors errors;
  FromField({5, 6, 7}, errors);
  FromField({0}, errors);
  FromField({4, -1}, errors);
  ASSERT_EQ(errors.errors().size(), 3u);
  EXPECT_EQ(errors.errors()[0].path, "size");
  EXPECT_THAT(errors.errors()[0].message, HasSubstr("found [5, 6, 7]"));
  EXPECT_THAT(errors.errors()[2].message, HasSubstr("found [4, -1]"));
}

TEST(SizeFromFieldTest, RefusesAHugeResult) {
  FieldErrors errors;
  EXPECT_EQ(FromField({8192}, errors), (Size2d{8192, 8192}));
  EXPECT_EQ(FromField({1, 1 << 26}, errors), (Size2d{1, 1 << 26}));
  EXPECT_TRUE(errors.empty());
  FromField({8193}, errors);
  FromField({2147483647}, errors);
  FromField({2, (1 << 25) + 1}, errors);
  ASSERT_EQ(errors.errors().size(), 3u);
  EXPECT_EQ(errors.errors()[1].path, "size");
  EXPECT_EQ(errors.errors()[1].message, "must be at most 67108864 pixels in all, found [2147483647]");
}

TEST(CoveringSizeTest, ShorterSideOfASquareTarget) {
  EXPECT_EQ(CoveringSize({375, 500}, {256, 256}), (Size2d{256, 341}));  // 341.33
  EXPECT_EQ(CoveringSize({500, 375}, {256, 256}), (Size2d{341, 256}));
  EXPECT_EQ(CoveringSize({8, 8}, {256, 256}), (Size2d{256, 256}));
  EXPECT_EQ(CoveringSize({1, 1000}, {16, 16}), (Size2d{16, 16000}));
}

TEST(CoveringSizeTest, CoversARectangle) {
  EXPECT_EQ(CoveringSize({100, 100}, {32, 64}), (Size2d{64, 64}));
  EXPECT_EQ(CoveringSize({100, 400}, {32, 64}), (Size2d{32, 128}));
  for (int64_t height = 1; height < 40; ++height) {
    for (int64_t width = 1; width < 40; ++width) {
      const Size2d size = CoveringSize({height, width}, {13, 17});
      EXPECT_GE(size.height, 13);
      EXPECT_GE(size.width, 17);
      EXPECT_TRUE(size.height == 13 || size.width == 17);
    }
  }
}

}  // namespace
}  // namespace graticule
