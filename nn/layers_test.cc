#include "nn/layers.h"

#include <cmath>

#include "ATen/ops/cat.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(LinearTest, StartsAsATruncatedNormalAndZeroBias) {
  const Linear linear(300, 400, /*bias=*/true, /*std=*/0.02);
  const auto parameters = linear.Parameters();
  ASSERT_EQ(parameters.size(), 2);
  EXPECT_EQ(parameters[0].name, "weight");
  EXPECT_EQ(parameters[0].tensor.sizes(), (at::IntArrayRef{400, 300}));
  EXPECT_TRUE(parameters[0].decay);
  EXPECT_NEAR(parameters[0].tensor.std().item<double>(), 0.02, 0.0005);
  EXPECT_EQ(parameters[1].name, "bias");
  EXPECT_FALSE(parameters[1].decay);
  EXPECT_TRUE(parameters[1].tensor.equal(at::zeros({400})));
  EXPECT_EQ(Linear(3, 4, /*bias=*/false).ParameterCount(), 12);
}

TEST(LinearTest, NothingIsDrawnInAnUndrawnScope) {
  at::manual_seed(3);
  const at::Tensor next = at::rand({4});
  at::manual_seed(3);
  {
    const UndrawnScope undrawn;
    const Linear linear(8, 4);
    EXPECT_EQ(linear.Parameters()[1].tensor.abs().max().item<double>(), 0);  // constants are set all the same
  }
  EXPECT_TRUE(at::rand({4}).equal(next));
  at::manual_seed(3);
  const Linear drawn(8, 4);
  EXPECT_FALSE(at::rand({4}).equal(next));
}

TEST(LinearTest, NoWeightStartsFarOut) {
  // Among 16 million draws some are at the end of the uniform distribution that the normal one is made from.
  const Linear linear(4096, 4096, /*bias=*/false, /*std=*/0.02);
  EXPECT_LT(linear.Parameters()[0].tensor.abs().max().item<double>(), 0.02 * 6);
}

TEST(DropPathTest, KeepsOrDropsWholeSamplesAndKeepsTheMean) {
  const double rate = 0.3;
  const DropPath drop_path(rate);
  const at::Tensor residual = at::ones({4000, 2, 3});
  const at::Tensor branch = at::ones({4000, 2, 3}).mul(5);
  const at::Tensor out = drop_path.Add(residual, branch).sub(residual);
  // Within a sample all entries share their fate: 0, or 5 / 0.7.
  EXPECT_TRUE(out.amax({1, 2}).equal(out.amin({1, 2})));
  const at::Tensor kept = out.select(1, 0).select(1, 0).gt(0);
  EXPECT_NEAR(kept.to(at::kFloat).mean().item<double>(), 1 - rate, 0.03);
  EXPECT_NEAR(out.max().item<double>(), 5 / (1 - rate), 1e-5);
}

TEST(DropPathTest, IsAPlainSumInEvalModeOrAtRateZero) {
  const at::Tensor residual = at::randn({3, 2, 4}), branch = at::randn({3, 2, 4});
  EXPECT_TRUE(DropPath(0).Add(residual, branch).equal(residual.add(branch)));
  DropPath drop_path(0.9);
  drop_path.SetTraining(false);
  EXPECT_TRUE(drop_path.Add(residual, branch).equal(residual.add(branch)));
}

TEST(DropPathTest, GradientReachesTheBranchOfKeptSamplesOnly) {
  const DropPath drop_path(0.5);
  const at::Tensor residual = at::ones({64, 1, 2});
  at::Tensor branch = at::ones({64, 1, 2}).set_requires_grad(true);
  const at::Tensor out = drop_path.Add(residual, branch);
  out.sum().backward();
  // d(out)/d(branch) is the scale, 0 or 2, which is also what was added.
  EXPECT_TRUE(branch.grad().equal(out.detach().sub(residual)));
}

TEST(DropPathTest, AddsAHalfPrecisionBranchInThePrecisionOfTheResidual) {
  const DropPath drop_path(0.5);
  const at::Tensor out = drop_path.Add(at::ones({8, 2, 2}), at::ones({8, 2, 2}, at::kBFloat16));
  EXPECT_EQ(out.scalar_type(), at::kFloat);
}

TEST(DropPathRateTest, GrowsLinearlyToTheLastLayer) {
  EXPECT_EQ(DropPathRate(0.3, 0, 4), 0);
  EXPECT_DOUBLE_EQ(DropPathRate(0.3, 2, 4), 0.2);
  EXPECT_DOUBLE_EQ(DropPathRate(0.3, 3, 4), 0.3);
  EXPECT_EQ(DropPathRate(0.3, 0, 1), 0);
}

TEST(TokensTest, PrefixTokensStandBeforeThePatches) {
  const at::Tensor a = at::randn({1, 1, 3}), b = at::randn({1, 1, 3}), x = at::randn({2, 4, 3});
  const at::Tensor out = PrependTokens({a, at::Tensor(), b}, x);
  EXPECT_TRUE(out.equal(at::cat({at::cat({a, a}), at::cat({b, b}), x}, 1)));
  EXPECT_TRUE(PrependTokens({at::Tensor()}, x).is_same(x));
}

TEST(TokensTest, OnlyTheLastTokensAreMapped) {
  const at::Tensor x = at::randn({2, 5, 3});
  const auto negate = [](const at::Tensor& tokens) { return tokens.neg(); };
  EXPECT_TRUE(MapLastTokens(x, 3, negate).equal(at::cat({x.narrow(1, 0, 2), x.narrow(1, 2, 3).neg()}, 1)));
  EXPECT_TRUE(MapLastTokens(x, 5, negate).equal(x.neg()));
}

TEST(DropoutTest, DropsEntriesInTrainModeOnly) {
  Dropout dropout(0.25);
  const at::Tensor x = at::ones({100, 100});
  const at::Tensor out = dropout.Forward(x);
  EXPECT_NEAR(out.eq(0).to(at::kFloat).mean().item<double>(), 0.25, 0.02);
  EXPECT_NEAR(out.max().item<double>(), 1 / 0.75, 1e-5);
  dropout.SetTraining(false);
  EXPECT_TRUE(dropout.Forward(x).equal(x));
}

}  // namespace
}  // namespace graticule
