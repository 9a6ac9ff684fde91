#include "nn/conv.h"

#include <cmath>

#include "ATen/ops/randn.h"
#include "gtest/gtest.h"
#include "nn/module.h"

namespace graticule {
namespace {

// out[c][y][x] of a depth-wise 3×3 with zero padding, worked out plainly.
TEST(Conv2dTest, DepthwiseConvolutionMeetsItsFormula) {
  const Conv2d conv({.in = 2, .out = 2, .kernel = 3, .padding = 1, .groups = 2});
  const auto parameters = conv.Parameters();
  const at::Tensor weight = parameters[0].tensor.detach(), bias = parameters[1].tensor.detach();
  ASSERT_EQ(weight.sizes(), (std::vector<int64_t>{2, 1, 3, 3}));
  const at::Tensor x = at::randn({1, 2, 4, 5}), y = conv.Forward(x).detach();
  ASSERT_EQ(y.sizes(), x.sizes());
  for (int c = 0; c < 2; ++c) {
    for (int row = 0; row < 4; ++row) {
      for (int column = 0; column < 5; ++column) {
        double sum = bias[c].item<double>();
        for (int i = 0; i < 3; ++i) {
          for (int j = 0; j < 3; ++j) {
            const int r = row + i - 1, k = column + j - 1;
            if (r < 0 || r >= 4 || k < 0 || k >= 5) continue;
            sum += weight[c][0][i][j].item<double>() * x[0][c][r][k].item<double>();
          }
        }
        EXPECT_NEAR(y[0][c][row][column].item<double>(), sum, 1e-5);
      }
    }
  }
}

TEST(Conv2dTest, StrideAndBiasAreOptional) {
  const Conv2d conv({.in = 3, .out = 8, .kernel = 7, .stride = 2, .padding = 3, .bias = false});
  EXPECT_EQ(conv.ParameterCount(), 8 * 3 * 7 * 7);
  EXPECT_EQ(conv.Forward(at::randn({2, 3, 16, 24})).sizes(), (std::vector<int64_t>{2, 8, 8, 12}));
}

TEST(Conv2dTest, ShapesOnTheMetaDeviceAreThoseOfTheCpu) {
  for (const Conv2dOptions& options : {Conv2dOptions{.in = 4, .out = 6, .kernel = 3, .stride = 2, .padding = 1},
                                       Conv2dOptions{.in = 4, .out = 4, .kernel = 5, .groups = 4, .bias = false},
                                       Conv2dOptions{.in = 4, .out = 8, .kernel = 4, .stride = 4}}) {
    const at::Tensor x = at::randn({2, 4, 13, 20});
    const auto sizes = Conv2d(options).Forward(x).relu().sizes().vec();
    const MetaScope meta;
    EXPECT_EQ(Conv2d(options).Forward(x.to(at::kMeta)).relu().sizes(), sizes);
  }
}

TEST(BatchNormTest, NormalisesByTheBatchInTrainingAndByTheRunningStatisticsAfterwards) {
  BatchNorm norm(3);
  const at::Tensor x = at::randn({4, 3, 5, 5}).mul(2).add(1);
  const at::Tensor mean = x.mean({0, 2, 3}), var = x.var({0, 2, 3}, /*unbiased=*/false);
  const at::Tensor shape = mean.view({1, 3, 1, 1});
  const at::Tensor y = norm.Forward(x).detach();
  EXPECT_TRUE(y.allclose(x.sub(shape).div(var.view({1, 3, 1, 1}).add(1e-5).sqrt()), 1e-4, 1e-5));

  const auto buffers = norm.Buffers();
  EXPECT_TRUE(buffers[0].tensor.allclose(mean.mul(0.1), 1e-5, 1e-6));
  EXPECT_TRUE(buffers[1].tensor.allclose(x.var({0, 2, 3}, /*unbiased=*/true).mul(0.1).add(0.9), 1e-5, 1e-6));
  EXPECT_EQ(buffers[2].tensor.item<int64_t>(), 1);

  norm.SetTraining(false);
  const at::Tensor expected =
      x.sub(buffers[0].tensor.view({1, 3, 1, 1})).div(buffers[1].tensor.view({1, 3, 1, 1}).add(1e-5).sqrt());
  EXPECT_TRUE(norm.Forward(x).detach().allclose(expected, 1e-4, 1e-5));
  EXPECT_EQ(norm.Buffers()[2].tensor.item<int64_t>(), 1);
}

TEST(BatchNormTest, FrozenItKeepsItsStatistics) {
  BatchNorm norm(3);
  for (const NamedParameter& parameter : norm.Parameters()) parameter.tensor.set_requires_grad(false);
  const at::Tensor x = at::randn({4, 3, 5, 5}).mul(2).add(1);
  const at::Tensor y = norm.Forward(x);
  EXPECT_TRUE(y.allclose(x, 1e-4, 1e-4));  // of a mean of 0 and a variance of 1
  EXPECT_EQ(norm.Buffers()[2].tensor.item<int64_t>(), 0);
}

}  // namespace
}  // namespace graticule
