#include "pooling/mpvg/mpvg.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

TEST(MpvgTest, DeliversToTheLayersAfterTheFirstAndToTheLastNorm) {
  const auto pooling = BuildPlugin<Pooling>(Mpvg());
  const TokenContract contract = pooling->contract();
  EXPECT_FALSE(contract.class_token);
  EXPECT_TRUE(contract.delivery.add_to_input());
  EXPECT_EQ(contract.delivery.layers(), PositionDelivery::HIERARCHICAL);
  EXPECT_FALSE(contract.delivery.first_layer());
  EXPECT_TRUE(contract.delivery.has_last());
  EXPECT_EQ(contract.delivery.last(), 0);
}

// Table 6: one choice of MPVG's changed at a time.
TEST(MpvgTest, FieldsChangeThePreset) {
  Mpvg config;
  config.mutable_delivery()->set_layers(PositionDelivery::FLAT);
  config.mutable_delivery()->set_first_layer(true);
  config.mutable_delivery()->set_add_to_input(false);
  const auto pooling = BuildPlugin<Pooling>(config);
  const PositionDelivery delivery = pooling->contract().delivery;
  EXPECT_EQ(delivery.layers(), PositionDelivery::FLAT);
  EXPECT_TRUE(delivery.first_layer());
  EXPECT_FALSE(delivery.add_to_input());
  EXPECT_EQ(delivery.last(), 0);
}

TEST(MpvgTest, RefusesANegativeLayer) {
  Mpvg config;
  config.mutable_delivery()->set_last(-1);
  EXPECT_EQ(ErrorPaths(Registry<Pooling>::Create(config, {}).status()), std::vector<std::string>{"delivery.last"});
}

}  // namespace
}  // namespace graticule
