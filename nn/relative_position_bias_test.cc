#include "nn/relative_position_bias.h"

#include "ATen/ops/randn.h"
#include "gtest/gtest.h"
#include "nn/module.h"

namespace graticule {
namespace {

// Entry [head][i][j] is the table's row of the offset from patch j to patch i.
TEST(RelativePositionBiasTest, LooksUpTheOffsetOfTwoPatches) {
  const Size2d window = {2, 3};
  for (const int64_t prefix : {0, 1, 2}) {
    RelativePositionBias encoding(window, 2, prefix);
    const at::Tensor table = encoding.Parameters()[0].tensor;
    ASSERT_EQ(table.sizes(), (at::IntArrayRef{3 * 5 + (prefix > 0 ? 3 : 0), 2}));
    EXPECT_FALSE(encoding.Parameters()[0].decay);
    const at::Tensor bias = encoding.Bias(at::randn({1, 2, prefix + 6, 4}));
    ASSERT_EQ(bias.sizes(), (at::IntArrayRef{2, prefix + 6, prefix + 6}));
    for (int64_t i = 0; i < prefix + 6; ++i) {
      for (int64_t j = 0; j < prefix + 6; ++j) {
        int64_t row = 0;
        if (i < prefix || j < prefix) {
          row = i >= prefix ? 16 : j >= prefix ? 15 : 17;
        } else {
          const int64_t down = (i - prefix) / 3 - (j - prefix) / 3, across = (i - prefix) % 3 - (j - prefix) % 3;
          row = (down + 1) * 5 + across + 2;
        }
        for (int64_t head = 0; head < 2; ++head) {
          EXPECT_EQ(bias[head][i][j].item<float>(), table[row][head].item<float>());
        }
      }
    }
  }
}

TEST(RelativePositionBiasTest, GradientsAreSumsOverThePairsOfAnOffset) {
  RelativePositionBias encoding({2, 2}, 1);
  encoding.Bias(at::randn({1, 1, 4, 4})).sum().backward();
  const at::Tensor gradient = encoding.Parameters()[0].tensor.grad().view({3, 3});
  const int expected[3][3] = {{1, 2, 1}, {2, 4, 2}, {1, 2, 1}};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) EXPECT_EQ(gradient[i][j].item<int>(), expected[i][j]);
  }
}

TEST(RelativePositionBiasTest, AdaptsTablesOfSquareWindowsAndTheirPrefixRowsStay) {
  const at::Tensor table = at::randn({9 + 3, 2});
  const at::Tensor adapted = AdaptRelativePositionBias(table, {3, 4}, 2, 1);
  ASSERT_EQ(adapted.sizes(), (at::IntArrayRef{5 * 7 + 3, 2}));
  EXPECT_TRUE(adapted.narrow(0, 35, 3).equal(table.narrow(0, 9, 3)));
  // The middle of an odd number of rows and columns stays the middle.
  EXPECT_TRUE(adapted[17].allclose(table[4], 1e-5, 1e-6));
  EXPECT_FALSE(AdaptRelativePositionBias(table, {3, 4}, 2).defined()) << "12 offsets are of no square window";
  EXPECT_FALSE(AdaptRelativePositionBias(table, {3, 4}, 3, 1).defined()) << "of other heads";
}

}  // namespace
}  // namespace graticule
