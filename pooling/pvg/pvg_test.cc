#include "pooling/pvg/pvg.h"

#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

TEST(PvgTest, DeliversToTheLayersAfterTheFirst) {
  const auto pooling = BuildPlugin<Pooling>(Pvg());
  const TokenContract contract = pooling->contract();
  EXPECT_FALSE(contract.class_token);
  EXPECT_TRUE(contract.delivery.add_to_input());
  EXPECT_EQ(contract.delivery.layers(), PositionDelivery::HIERARCHICAL);
  EXPECT_FALSE(contract.delivery.first_layer());
  EXPECT_FALSE(contract.delivery.has_last());
}

// Table 5: pos_11 at the last norm.
TEST(PvgTest, FieldsChangeThePreset) {
  Pvg config;
  config.mutable_delivery()->set_last(11);
  const auto pooling = BuildPlugin<Pooling>(config);
  EXPECT_EQ(pooling->contract().delivery.last(), 11);
  EXPECT_EQ(pooling->contract().delivery.layers(), PositionDelivery::HIERARCHICAL);
}

}  // namespace
}  // namespace graticule
