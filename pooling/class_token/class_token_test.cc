#include "pooling/class_token/class_token.h"

#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

TEST(ClassTokenTest, TakesTokenZero) {
  const auto pooling = BuildPlugin<Pooling>(ClassToken());
  const at::Tensor tokens = at::arange(2 * 5 * 3, at::kFloat).view({2, 5, 3});
  const at::Tensor pooled = pooling->Forward({.tokens = tokens, .prefix_tokens = 1, .grid = {2, 2}});
  const at::Tensor expected = at::arange(3, at::kFloat);
  EXPECT_TRUE(pooled[0].equal(expected));
  EXPECT_TRUE(pooled[1].equal(expected.add(15)));
}

TEST(ClassTokenTest, DeliversAtTheInputOnlyByDefault) {
  const auto pooling = BuildPlugin<Pooling>(ClassToken());
  const TokenContract contract = pooling->contract();
  EXPECT_TRUE(contract.class_token);
  EXPECT_TRUE(contract.delivery.add_to_input());
  EXPECT_EQ(contract.delivery.layers(), PositionDelivery::NONE);
  EXPECT_FALSE(contract.delivery.has_last());
}

TEST(ClassTokenTest, LapeIsAPreset) {
  ClassToken config;
  config.mutable_delivery()->set_preset(PositionDelivery::LAPE);
  const auto pooling = BuildPlugin<Pooling>(config);
  const PositionDelivery delivery = pooling->contract().delivery;
  EXPECT_FALSE(delivery.add_to_input());
  EXPECT_EQ(delivery.layers(), PositionDelivery::HIERARCHICAL);
  EXPECT_TRUE(delivery.first_layer());
  EXPECT_FALSE(delivery.has_last());
}

TEST(ClassTokenTest, ReportsEveryContradictionWithItsField) {
  ClassToken config;
  config.mutable_delivery()->set_last(5);
  config.mutable_delivery()->set_first_layer(true);
  EXPECT_EQ(ErrorPaths(Registry<Pooling>::Create(config, {}).status()),
            (std::vector<std::string>{"delivery.last", "delivery.first_layer"}));
}

}  // namespace
}  // namespace graticule
