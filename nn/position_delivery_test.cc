#include "nn/position_delivery.h"

#include <string>
#include <vector>

#include "ATen/ops/randn.h"
#include "ATen/ops/tensor.h"
#include "gtest/gtest.h"
#include "nn/testing.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

std::vector<std::string> Names(const Module& module) {
  std::vector<std::string> names;
  for (const NamedParameter& parameter : module.Parameters()) names.push_back(parameter.name);
  return names;
}

std::vector<std::string> ErrorPaths(const PositionDelivery& delivery) {
  return graticule::ErrorPaths(CheckPositionDelivery(delivery));
}

TEST(ResolvePositionDeliveryTest, APresetInTheConfigWinsAndFieldsChangeIt) {
  PositionDelivery given;
  given.set_preset(PositionDelivery::LAPE);
  given.set_first_layer(false);
  const PositionDelivery resolved = ResolvePositionDelivery(given, PositionDelivery::MPVG);
  EXPECT_FALSE(resolved.add_to_input());
  EXPECT_EQ(resolved.layers(), PositionDelivery::HIERARCHICAL);
  EXPECT_TRUE(resolved.has_first_layer());
  EXPECT_FALSE(resolved.first_layer());
  EXPECT_FALSE(resolved.has_last());
}

TEST(ResolvePositionDeliveryTest, PvgAndMpvgLeaveTheFirstLayerToTheBackbone) {
  EXPECT_FALSE(Preset(PositionDelivery::PVG).has_first_layer());
  EXPECT_FALSE(Preset(PositionDelivery::MPVG).has_first_layer());
}

TEST(CheckPositionDeliveryTest, NamesEachField) {
  for (const auto preset :
       {PositionDelivery::VIT, PositionDelivery::LAPE, PositionDelivery::PVG, PositionDelivery::MPVG}) {
    EXPECT_TRUE(ErrorPaths(Preset(preset)).empty());
  }
  PositionDelivery delivery = Preset(PositionDelivery::VIT);
  delivery.set_last(5);
  delivery.set_first_layer(true);
  EXPECT_EQ(ErrorPaths(delivery), (std::vector<std::string>{"last", "first_layer"}));
  delivery = Preset(PositionDelivery::VIT);
  delivery.set_add_to_input(false);
  EXPECT_EQ(ErrorPaths(delivery), std::vector<std::string>{"add_to_input"});
  delivery.set_last(0);
  EXPECT_TRUE(ErrorPaths(delivery).empty());
  delivery.set_last(-2);
  EXPECT_EQ(ErrorPaths(delivery), std::vector<std::string>{"last"});
}

TEST(CheckPositionDeliveryTest, NeedsTheLayerAndThePosition) {
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(11);
  EXPECT_TRUE(CheckPositionDelivery(delivery, 12, true).ok());
  EXPECT_FALSE(CheckPositionDelivery(delivery, 11, true).ok());
  EXPECT_TRUE(CheckPositionDelivery(Preset(PositionDelivery::VIT), 12, false).ok());
  EXPECT_FALSE(CheckPositionDelivery(Preset(PositionDelivery::PVG), 12, false).ok());
}

TEST(PositionDeliveryNormsTest, OwnsANormForEachLayerThatTakesPart) {
  const std::vector<int64_t> widths = {4, 4, 4};
  EXPECT_TRUE(Names(PositionDeliveryNorms(Preset(PositionDelivery::VIT), widths, 4, 1e-6)).empty());
  EXPECT_EQ(Names(PositionDeliveryNorms(Preset(PositionDelivery::LAPE), widths, 4, 1e-6)),
            (std::vector<std::string>{"pos_norms.0.weight", "pos_norms.0.bias", "pos_norms.1.weight",
                                      "pos_norms.1.bias", "pos_norms.2.weight", "pos_norms.2.bias"}));
  EXPECT_EQ(Names(PositionDeliveryNorms(Preset(PositionDelivery::MPVG), widths, 4, 1e-6)),
            (std::vector<std::string>{"pos_norms.1.weight", "pos_norms.1.bias", "pos_norms.2.weight",
                                      "pos_norms.2.bias", "last_pos_norm.weight", "last_pos_norm.bias"}));
}

TEST(PositionDeliveryNormsTest, TheFirstLayerTakesPartByDefaultWhereTheBackboneSaysSo) {
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  EXPECT_TRUE(WithFirstLayerByDefault(delivery).first_layer());
  delivery.set_first_layer(false);
  EXPECT_FALSE(WithFirstLayerByDefault(delivery).first_layer());
}

TEST(DeliveredPositionTest, MeetsTheTokensAtTheInputAndTheLastNormWhereTheDeliverySaysSo) {
  const at::Tensor pos_0 = at::randn({1, 2, 4}), x = at::randn({3, 2, 4});
  for (const auto preset : {PositionDelivery::LAPE, PositionDelivery::MPVG}) {
    const PositionDeliveryNorms norms(Preset(preset), /*depth=*/1, /*width=*/4, 0);
    DeliveredPosition position = norms.Deliver(pos_0);
    EXPECT_TRUE(position.AddAtInput(x).equal(preset == PositionDelivery::LAPE ? x : x.add(pos_0)));
    position.AtLayer(0);
    EXPECT_EQ(position.AddAtLastNorm(x).equal(x), preset == PositionDelivery::LAPE);
    DeliveredPosition nothing = norms.Deliver(at::Tensor());
    EXPECT_TRUE(nothing.AddAtInput(x).equal(x));
    EXPECT_FALSE(nothing.AtLayer(0).defined());
    EXPECT_TRUE(nothing.AddAtLastNorm(x).equal(x));
  }
}

// Between stages the tokens lose rows and gain width; the position goes the same way.
TEST(DeliveredPositionTest, MapTakesThePositionToTheNextStage) {
  PositionDelivery delivery = Preset(PositionDelivery::MPVG);
  delivery.set_first_layer(true);
  const PositionDeliveryNorms norms(delivery, {2, 4}, 4, 0);
  DeliveredPosition position = norms.Deliver(at::tensor({1, 3, 8, 4}, at::kFloat).view({1, 2, 2}));
  // The norm of two numbers is ±1.
  EXPECT_TRUE(position.AtLayer(0).equal(at::tensor({-1, 1, 1, -1}, at::kFloat).view({1, 2, 2})));
  int calls = 0;
  position.Map([&](const at::Tensor& pos) {
    ++calls;
    return pos.reshape({1, 1, 4});
  });
  EXPECT_EQ(calls, 2) << "pos_0 and pos_1";
  EXPECT_TRUE(position.AtLayer(1).equal(at::tensor({-1, 1, 1, -1}, at::kFloat).view({1, 1, 4})));
  // pos_0 = 1 3 8 4: mean 4, variance 6.5.
  const at::Tensor expected = at::tensor({-3, -1, 4, 0}, at::kFloat).div(2.5495098).view({1, 1, 4});
  const at::Tensor normed = at::randn({2, 1, 4});
  EXPECT_TRUE(position.AddAtLastNorm(normed).allclose(normed.add(expected)));
}

}  // namespace
}  // namespace graticule
