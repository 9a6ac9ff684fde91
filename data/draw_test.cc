#include "data/draw.h"

#include <filesystem>
#include <string>

#include "data/decode/decode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"

namespace graticule {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr Color kRed = {255, 0, 0};

Color At(const Image& image, int64_t y, int64_t x) {
  const uint8_t* pixel = image.pixels.data() + 3 * (y * image.width + x);
  return {pixel[0], pixel[1], pixel[2]};
}

// One line a row, a '#' where the colour is white.
std::string Shape(const Image& image) {
  std::string shape;
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) shape += At(image, y, x) == kWhite ? '#' : '.';
    shape += '\n';
  }
  return shape;
}

TEST(DrawTest, FillsWhatLiesOnTheCanvas) {
  Canvas canvas({2, 3}, kBlack);
  canvas.Fill({-1, 1, {2, 10}}, kRed);
  canvas.Fill({1, 0, {1, 1}}, kWhite, 0.2);
  EXPECT_EQ(canvas.image().pixels, (Pixels{0, 0, 0, 255, 0, 0, 255, 0, 0, 51, 51, 51, 0, 0, 0, 0, 0, 0}));
}

TEST(DrawTest, EnlargesAnImageByItsNearestPixels) {
  Canvas canvas({5, 7}, kBlack);
  canvas.Draw(Image{1, 2, {255, 255, 255, 255, 0, 0}}, 1, 2, 2);
  EXPECT_EQ(Shape(canvas.image()), ".......\n..##...\n..##...\n.......\n.......\n");
  EXPECT_EQ(At(canvas.image(), 2, 5), kRed);
}

TEST(DrawTest, WritesLetters) {
  Canvas canvas({9, 8}, kBlack);
  canvas.Write("H", 1, 1, 1, kWhite);
  EXPECT_EQ(Shape(canvas.image()),
            "........\n"
            ".#..#...\n"
            ".#..#...\n"
            ".#..#...\n"
            ".####...\n"
            ".#..#...\n"
            ".#..#...\n"
            ".#..#...\n"
            "........\n");
  Canvas large({7 * 3, 4 * 3}, kBlack);
  large.Write("H", 0, 0, 3, kWhite);
  Canvas small({7, 4}, kBlack);
  small.Write("H", 0, 0, 1, kWhite);
  Canvas enlarged({7 * 3, 4 * 3}, kBlack);
  enlarged.Draw(small.image(), 0, 0, 3);
  EXPECT_EQ(large.image(), enlarged.image());
}

TEST(DrawTest, OtherCharactersAreQuestionMarks) {
  Canvas accented({12, 40}, kBlack), asked({12, 40}, kBlack);
  accented.Write("\xC3\xA9\n\xE7\x8C\xAB", 0, 0, 1, kWhite);  // é, a line break, 猫
  asked.Write("???", 0, 0, 1, kWhite);
  EXPECT_EQ(accented.image(), asked.image());
  EXPECT_EQ(TextWidth("é", 2), TextWidth("?", 2));
}

TEST(DrawTest, CutsTextToAWidth) {
  EXPECT_EQ(CutText("cat", 2, 100), "cat");
  const std::string cut = CutText("west highland white terrier", 2, 150);
  EXPECT_THAT(cut, StartsWith("west "));
  EXPECT_THAT(cut, EndsWith(".."));
  EXPECT_LE(TextWidth(cut, 2), 150);
  EXPECT_GT(TextWidth(cut, 2), 130);
}

TEST(DrawTest, WritesAPngThatHoldsTheImage) {
  Canvas canvas({30, 40}, kRed);
  canvas.Write("png", 5, 5, 1, kWhite);
  const std::string path = testing::TempDir() + "/picture.png";
  ASSERT_TRUE(WritePng(path, canvas.image()).ok());
  const auto file = ReadFile(path);
  ASSERT_TRUE(file.ok());
  const auto decoded = DecodeImage(*file);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, canvas.image());
  EXPECT_EQ(*EncodePng(canvas.image()), *file);
  EXPECT_THAT(WritePng(testing::TempDir() + "/none/picture.png", canvas.image()).message(),
              HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace graticule
