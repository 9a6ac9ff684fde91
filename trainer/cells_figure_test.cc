#include "trainer/cells_figure.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/tensor.h"
#include "data/draw.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

// Of the figure: between panels, and the line of captions between the images and the maps.
constexpr int64_t kGap = 12, kLine = 28;

Color At(const Image& image, int64_t y, int64_t x) {
  const uint8_t* pixel = image.pixels.data() + 3 * (y * image.width + x);
  return {pixel[0], pixel[1], pixel[2]};
}

// Different pixels of two pictures of one size, in a box.
int64_t Differences(const Image& a, const Image& b, const Box& box) {
  EXPECT_EQ(a.size(), b.size());
  int64_t count = 0;
  for (int64_t y = box.top; y < box.top + box.size.height; ++y) {
    for (int64_t x = box.left; x < box.left + box.size.width; ++x) count += At(a, y, x) != At(b, y, x);
  }
  return count;
}

at::Tensor RandomImages(int64_t count, Size2d size) {
  return at::randint(0, 256, {count, size.height, size.width, 3}, at::kByte).permute({0, 3, 1, 2});
}

TEST(CellsFigureTest, EveryCellHasAColourOfItsOwn) {
  for (const Size2d grid : {Size2d{14, 14}, Size2d{7, 7}, Size2d{3, 5}, Size2d{1, 4}, Size2d{1, 1}}) {
    std::set<Color> colours;
    for (int64_t cell = 0; cell < grid.area(); ++cell) colours.insert(CellColor(cell, grid));
    EXPECT_EQ(colours.size(), grid.area());
  }
  // Corners are the same whatever the grid, and neighbours are alike.
  EXPECT_EQ(CellColor(13, {14, 14}), CellColor(2, {3, 3}));
  EXPECT_EQ(CellColor(14 * 13, {14, 14}), CellColor(6, {3, 3}));
  for (int64_t cell = 0; cell + 1 < 14; ++cell) {
    for (int c = 0; c < 3; ++c) {
      EXPECT_NEAR(CellColor(cell, {14, 14})[c], CellColor(cell + 1, {14, 14})[c], 40);
    }
  }
}

TEST(CellsFigureTest, PanelsStandBesideAndBelowEachOther) {
  // 8×16 pixels are enlarged by 14 to 112×224; 2×4 cells are 56×56.
  const at::Tensor images = RandomImages(2, {8, 16});
  const Size2d grid{2, 4};
  at::Tensor said = at::arange(8).expand({2, -1}).clone();
  said[1][6] = 3;
  const Image figure = DrawCells(images, grid, said);
  EXPECT_EQ(figure.size(), (Size2d{kGap + 112 + kLine + 112 + kGap, kGap + 3 * (224 + kGap)}));
  for (int64_t i = 0; i < 2; ++i) {
    const int64_t left = kGap + (i + 1) * (224 + kGap), maps = kGap + 112 + kLine;
    const at::Tensor image = images[i].contiguous();
    for (int64_t y = 0; y < 8; ++y) {
      for (int64_t x = 0; x < 16; ++x) {
        const Color shown = At(figure, kGap + 14 * y + 7, left + 14 * x + 7);
        for (int c = 0; c < 3; ++c) EXPECT_EQ(shown[c], image[c][y][x].item<int64_t>());
      }
    }
    for (int64_t cell = 0; cell < 8; ++cell) {
      const int64_t y = 56 * (cell / 4), x = 56 * (cell % 4);
      const bool wrong = i == 1 && cell == 6;
      EXPECT_EQ(At(figure, kGap + y + 5, kGap + x + 5), CellColor(cell, grid));
      EXPECT_EQ(At(figure, maps + y + 5, left + x + 5), CellColor(wrong ? 3 : cell, grid));
      // Right cells are of one colour, wrong ones are crossed.
      std::set<Color> colours;
      for (int64_t v = 1; v < 56; ++v) {
        for (int64_t u = 1; u < 56; ++u) colours.insert(At(figure, maps + y + v, left + x + u));
      }
      EXPECT_EQ(colours.size() > 1, wrong) << i << " " << cell;
    }
  }
}

TEST(CellsFigureTest, CaptionsSayHowManyAreRight) {
  const at::Tensor images = RandomImages(2, {8, 8});
  const Box first{kGap + 224, kGap + 236, {kLine, 224}}, second{kGap + 224, kGap + 2 * 236, {kLine, 224}};
  const Box all{kGap + 224 + kLine, kGap, {224, 224}};
  const auto draw = [&](const std::vector<int64_t>& said) {
    return DrawCells(images, {2, 2}, at::tensor(said, at::kLong).view({2, 4}));
  };
  const Image figure = draw({0, 1, 2, 3, 0, 1, 2, 0});
  const Image other_error = draw({0, 1, 2, 3, 0, 0, 2, 3});
  EXPECT_EQ(Differences(figure, other_error, first) + Differences(figure, other_error, second), 0);
  EXPECT_EQ(Differences(figure, other_error, all), 0);
  const Image swapped = draw({0, 1, 2, 0, 0, 1, 2, 3});
  EXPECT_GT(Differences(figure, swapped, first), 10);
  EXPECT_GT(Differences(figure, swapped, second), 10);
  EXPECT_EQ(Differences(figure, swapped, all), 0);

  // 3 of 4 under the second image, in the middle.
  Canvas caption({kLine, 224}, {24, 24, 28});
  const std::string text = "75.0 %";
  caption.Write(text, (kLine - TextHeight(2)) / 2, (224 - TextWidth(text, 2)) / 2, 2, {224, 224, 228});
  for (int64_t y = 0; y < kLine; ++y) {
    for (int64_t x = 0; x < 224; ++x) {
      ASSERT_EQ(At(figure, second.top + y, second.left + x), At(caption.image(), y, x)) << y << " " << x;
    }
  }
}

TEST(CellsFigureTest, FineGridsEnlargeTheImageWithinABound) {
  const at::Tensor said = at::arange(784).view({1, 784});
  EXPECT_EQ(DrawCells(RandomImages(1, {224, 224}), {28, 28}, said).size(),
            (Size2d{2 * kGap + 2 * 448 + kLine, kGap + 2 * (448 + kGap)}));
  EXPECT_EQ(DrawCells(RandomImages(1, {512, 512}), {28, 28}, said).size(),
            (Size2d{2 * kGap + 2 * 512 + kLine, kGap + 2 * (512 + kGap)}));
  EXPECT_EQ(DrawCells(RandomImages(1, {28, 28}), {28, 28}, said).size(),
            (Size2d{2 * kGap + 2 * 392 + kLine, kGap + 2 * (392 + kGap)}));
}

}  // namespace
}  // namespace graticule
