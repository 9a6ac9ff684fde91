#include "nn/position_encoding.h"

#include <cmath>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "gtest/gtest.h"
#include "nn/module.h"

namespace graticule {
namespace {

double Entry(const at::Tensor& table, int64_t token, int64_t channel) {
  return table[0][token][channel].item<double>();
}

TEST(PositionEncodingTest, Sinusoid1dCountsTheClassTokenAsPosition0) {
  const int64_t width = 6;
  const at::Tensor table = NewPositionTable(PositionEncoding::SINUSOID_1D, {2, 3}, 1, width);
  ASSERT_EQ(table.sizes(), (at::IntArrayRef{1, 7, width}));
  for (int token = 0; token < 7; ++token) {
    for (int pair = 0; pair < 3; ++pair) {
      const double angle = token / std::pow(10000.0, 2.0 * pair / width);
      EXPECT_NEAR(Entry(table, token, 2 * pair), std::sin(angle), 1e-6);
      EXPECT_NEAR(Entry(table, token, 2 * pair + 1), std::cos(angle), 1e-6);
    }
  }
}

// LaPE's: of the width 8, channels 0 to 3 are the column's and 4 to 7 the row's, with frequencies 1 and 1/100.
TEST(PositionEncodingTest, Sinusoid2dInterleavesSinAndCos) {
  const at::Tensor table = NewPositionTable(PositionEncoding::SINUSOID_2D, {2, 3}, 1, 8);
  ASSERT_EQ(table.sizes(), (at::IntArrayRef{1, 7, 8}));
  EXPECT_TRUE(table[0][0].equal(at::zeros({8})));
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 3; ++column) {
      const std::vector<double> expected = {std::sin(column * 1.0),  std::cos(column * 1.0), std::sin(column * 0.01),
                                            std::cos(column * 0.01), std::sin(row * 1.0),    std::cos(row * 1.0),
                                            std::sin(row * 0.01),    std::cos(row * 0.01)};
      for (int i = 0; i < 8; ++i) EXPECT_NEAR(Entry(table, 1 + row * 3 + column, i), expected[i], 1e-6);
    }
  }
}

// timm's: blocks of 2 channels, with frequencies 1 and 1/100.
TEST(PositionEncodingTest, Sinusoid2dBlocksPutsSinBeforeCos) {
  const at::Tensor table = NewPositionTable(PositionEncoding::SINUSOID_2D_BLOCKS, {2, 3}, 0, 8);
  ASSERT_EQ(table.sizes(), (at::IntArrayRef{1, 6, 8}));
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 3; ++column) {
      const std::vector<double> expected = {std::sin(row * 1.0),     std::sin(row * 0.01),   std::sin(column * 1.0),
                                            std::sin(column * 0.01), std::cos(row * 1.0),    std::cos(row * 0.01),
                                            std::cos(column * 1.0),  std::cos(column * 0.01)};
      for (int i = 0; i < 8; ++i) EXPECT_NEAR(Entry(table, row * 3 + column, i), expected[i], 1e-6);
    }
  }
}

TEST(PositionEncodingTest, LearnedStartsAtItsStandardDeviation) {
  const at::Tensor table = NewPositionTable(PositionEncoding::LEARNED, {14, 14}, 1, 192, 0.2);
  ASSERT_EQ(table.sizes(), (at::IntArrayRef{1, 197, 192}));
  EXPECT_NEAR(table.std().item<double>(), 0.2, 0.005);
  EXPECT_TRUE(IsTrained(PositionEncoding::LEARNED));
  EXPECT_FALSE(IsTrained(PositionEncoding::SINUSOID_2D));
}

TEST(PositionEncodingTest, MetaTablesHaveShapesOnly) {
  const MetaScope meta;
  for (const auto kind : {PositionEncoding::LEARNED, PositionEncoding::SINUSOID_1D, PositionEncoding::SINUSOID_2D}) {
    const at::Tensor table = NewPositionTable(kind, {2, 2}, 1, 8);
    EXPECT_TRUE(table.is_meta());
    EXPECT_EQ(table.sizes(), (at::IntArrayRef{1, 5, 8}));
  }
  EXPECT_FALSE(NewPositionTable(PositionEncoding::NONE, {2, 2}, 1, 8).defined());
}

TEST(ResizePositionTableTest, KeepsPrefixAndConstants) {
  at::Tensor table = at::zeros({1, 1 + 16, 3}).add(7);
  table.select(1, 0).fill_(-1);
  const at::Tensor resized = ResizePositionTable(table, 1, {4, 4}, {2, 6});
  ASSERT_EQ(resized.sizes(), (at::IntArrayRef{1, 13, 3}));
  EXPECT_TRUE(resized.select(1, 0).eq(-1).all().item<bool>());
  EXPECT_TRUE(resized.narrow(1, 1, 12).sub(7).abs().lt(1e-5).all().item<bool>());
}

TEST(AdaptPositionTableTest, DropsRowsOfPrefixTokensThatTheModelLacks) {
  // 197 rows to 196: the class token's goes.
  const at::Tensor with_class_token = at::randn({1, 197, 4});
  const at::Tensor patches = AdaptPositionTable(with_class_token, 0, {14, 14}, 4);
  EXPECT_TRUE(patches.equal(with_class_token.narrow(1, 1, 196)));
  // 198 rows (distilled DeiT) to 197: the distillation token's, which is row 1.
  const at::Tensor distilled = at::randn({1, 198, 4});
  const at::Tensor adapted = AdaptPositionTable(distilled, 1, {14, 14}, 4);
  EXPECT_TRUE(adapted.select(1, 0).equal(distilled.select(1, 0)));
  EXPECT_TRUE(adapted.narrow(1, 1, 196).equal(distilled.narrow(1, 2, 196)));
  // A grid that isn't square, of the same number of patches.
  const at::Tensor wide = at::randn({1, 1 + 10, 4});
  EXPECT_TRUE(AdaptPositionTable(wide, 0, {2, 5}, 4).equal(wide.narrow(1, 1, 10)));
}

TEST(AdaptPositionTableTest, InterpolatesFromASquareGrid) {
  const at::Tensor table = at::randn({1, 1 + 16, 4});
  const at::Tensor adapted = AdaptPositionTable(table, 1, {3, 5}, 4);
  EXPECT_TRUE(adapted.equal(ResizePositionTable(table, 1, {4, 4}, {3, 5})));
  EXPECT_TRUE(AdaptPositionTable(table, 0, {3, 5}, 4).equal(adapted.narrow(1, 1, 15)));
}

// RoPE-ViT adds the table to the patches before the class token comes: it has no position there.
TEST(AdaptPositionTableTest, ATableOfThePatchesAloneLeavesTheClassTokenWithoutPosition) {
  const at::Tensor table = at::randn({1, 16, 4});
  for (const Size2d grid : {Size2d{4, 4}, Size2d{3, 6}}) {
    const at::Tensor adapted = AdaptPositionTable(table, 1, grid, 4);
    ASSERT_TRUE(adapted.defined());
    EXPECT_EQ(adapted.select(1, 0).abs().sum().item<double>(), 0);
    EXPECT_TRUE(adapted.narrow(1, 1, grid.area()).equal(ResizePositionTable(table, 0, {4, 4}, grid)));
  }
}

TEST(AdaptPositionTableTest, RefusesWhatItCannotKnow) {
  EXPECT_FALSE(AdaptPositionTable(at::randn({1, 197, 8}), 1, {7, 7}, 4).defined()) << "another width";
  EXPECT_FALSE(AdaptPositionTable(at::randn({1, 1 + 6, 4}), 1, {7, 7}, 4).defined()) << "no square grid";
}

}  // namespace
}  // namespace graticule
