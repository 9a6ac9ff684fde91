#include "pooling/seq_pool/seq_pool.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "ATen/ops/cat.h"
#include "ATen/ops/randn.h"
#include "gtest/gtest.h"
#include "nn/module.h"
#include "nn/testing.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

std::unique_ptr<Pooling> Make(int64_t width) {
  auto pooling = BuildPlugin<Pooling>(SeqPool());
  pooling->Build(width);
  return pooling;
}

TEST(SeqPoolTest, WeighsThePatchTokensByASoftmax) {
  constexpr int kTokens = 6, kWidth = 5;
  const auto pooling = Make(kWidth);
  const std::vector<NamedParameter> parameters = pooling->Parameters();
  ASSERT_EQ(parameters.size(), 2);
  EXPECT_EQ(parameters[0].name, "attention_pool.weight");
  EXPECT_EQ(parameters[0].tensor.sizes(), (std::vector<int64_t>{1, kWidth}));
  EXPECT_EQ(parameters[1].name, "attention_pool.bias");
  Randomize(*pooling, 1);
  const at::Tensor tokens = at::randn({2, kTokens, kWidth});
  const at::Tensor pooled = pooling->Forward({.tokens = tokens, .grid = {2, 3}}).detach();
  ASSERT_EQ(pooled.sizes(), (std::vector<int64_t>{2, kWidth}));
  for (int b = 0; b < 2; ++b) {
    double weights[kTokens], sum = 0;
    for (int i = 0; i < kTokens; ++i) {
      double logit = parameters[1].tensor.item<double>();
      for (int d = 0; d < kWidth; ++d) {
        logit += tokens[b][i][d].item<double>() * parameters[0].tensor[0][d].item<double>();
      }
      sum += weights[i] = std::exp(logit);
    }
    for (int d = 0; d < kWidth; ++d) {
      double expected = 0;
      for (int i = 0; i < kTokens; ++i) expected += weights[i] / sum * tokens[b][i][d].item<double>();
      EXPECT_NEAR(pooled[b][d].item<double>(), expected, 1e-5);
    }
  }
  const at::Tensor prefixed = at::cat({at::randn({2, 1, kWidth}), tokens}, 1);
  EXPECT_TRUE(pooling->Forward({.tokens = prefixed, .prefix_tokens = 1, .grid = {2, 3}}).allclose(pooled, 1e-5, 1e-6));
}

TEST(SeqPoolTest, AsksForNoClassTokenAndThePositionAtTheInputOnly) {
  const TokenContract contract = Make(4)->contract();
  EXPECT_FALSE(contract.class_token);
  EXPECT_TRUE(contract.delivery.add_to_input());
  EXPECT_EQ(contract.delivery.layers(), PositionDelivery::NONE);
  EXPECT_FALSE(contract.delivery.has_last());
}

TEST(SeqPoolTest, FieldsChangeTheDelivery) {
  SeqPool config;
  config.mutable_delivery()->set_preset(PositionDelivery::MPVG);
  const auto pooling = BuildPlugin<Pooling>(config);
  EXPECT_EQ(pooling->contract().delivery.layers(), PositionDelivery::HIERARCHICAL);
  EXPECT_TRUE(pooling->contract().delivery.has_last());
  config.mutable_delivery()->set_last(-1);
  EXPECT_EQ(ErrorPaths(Registry<Pooling>::Create(config, {}).status()), std::vector<std::string>{"delivery.last"});
}

}  // namespace
}  // namespace graticule
