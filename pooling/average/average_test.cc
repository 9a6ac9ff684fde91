#include "pooling/average/average.h"

#include <string>
#include <vector>

#include "ATen/ops/tensor.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

TEST(AverageTest, TakesTheMeanOfThePatchTokens) {
  const auto pooling = BuildPlugin<Pooling>(Average());
  // Two images of a class token and two patches.
  const at::Tensor tokens = at::tensor({100, 200, 1, 2, 3, 6, /**/ -100, -200, 5, 5, 7, 9}, at::kFloat).view({2, 3, 2});
  const at::Tensor with_prefix = pooling->Forward({.tokens = tokens, .prefix_tokens = 1, .grid = {1, 2}});
  EXPECT_TRUE(with_prefix.equal(at::tensor({2, 4, 6, 7}, at::kFloat).view({2, 2})));
  const at::Tensor patches = pooling->Forward({.tokens = tokens.narrow(1, 1, 2), .prefix_tokens = 0, .grid = {1, 2}});
  EXPECT_TRUE(patches.equal(with_prefix));
}

TEST(AverageTest, AsksForNoClassTokenAndThePositionAtTheInputOnly) {
  const auto pooling = BuildPlugin<Pooling>(Average());
  const TokenContract contract = pooling->contract();
  EXPECT_FALSE(contract.class_token);
  EXPECT_TRUE(contract.delivery.add_to_input());
  EXPECT_EQ(contract.delivery.layers(), PositionDelivery::NONE);
  EXPECT_FALSE(contract.delivery.has_last());
}

// Figure 5: average pooling with LN'(pos_0) at the last norm, not layer-wise.
TEST(AverageTest, FieldsChangeTheDelivery) {
  Average config;
  config.mutable_delivery()->set_last(0);
  const auto pooling = BuildPlugin<Pooling>(config);
  const PositionDelivery delivery = pooling->contract().delivery;
  EXPECT_EQ(delivery.layers(), PositionDelivery::NONE);
  EXPECT_TRUE(delivery.has_last());
  EXPECT_EQ(delivery.last(), 0);
}

TEST(AverageTest, RefusesAPositionThatGoesNowhere) {
  Average config;
  config.mutable_delivery()->set_add_to_input(false);
  EXPECT_EQ(ErrorPaths(Registry<Pooling>::Create(config, {}).status()),
            std::vector<std::string>{"delivery.add_to_input"});
}

}  // namespace
}  // namespace graticule
