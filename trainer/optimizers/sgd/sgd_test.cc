#include "trainer/optimizers/sgd/sgd.h"

#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/ones.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/optimizers/testing.h"

namespace graticule {
namespace {

const std::vector<std::string> kNames = {"weight", "bias", "late"};

Sgd Config(double momentum, double dampening, bool nesterov, double weight_decay) {
  Sgd config;
  config.set_momentum(momentum);
  config.set_dampening(dampening);
  config.set_nesterov(nesterov);
  config.set_weight_decay(weight_decay);
  return config;
}

TEST(SgdTest, StepsAsPyTorchDoes) {
  const OptimizerFixture fixture("sgd");
  for (const auto& [name, config] : {std::pair("plain", Config(0, 0, false, 0.1)),
                                     {"momentum", Config(0.9, 0, false, 0.1)},
                                     {"nesterov", Config(0.8, 0, true, 0)},
                                     {"dampening", Config(0.9, 0.5, false, 0.1)}}) {
    const auto parameters = fixture.Parameters(kNames);
    std::vector<std::pair<std::string, std::string>> state;
    if (config.momentum() > 0) state = {{"momentum_buffer", "momentum_buffer"}};
    fixture.ExpectCase(name, *BuildPlugin<Optimizer>(config, {parameters}), parameters, state);
  }
}

// Of g = 1 at momentum 0.9: 1, 1.9, 2.71.
TEST(SgdTest, TheDefaultIsAMomentumOfNineTenths) {
  const at::Tensor weight = at::ones({2, 2}).set_requires_grad(true);
  const auto optimizer = BuildPlugin<Optimizer>(Sgd(), {{{"w", weight}}});
  weight.mutable_grad() = at::ones({2, 2});
  for (int step = 0; step < 3; ++step) optimizer->Step(0.1);
  EXPECT_NEAR(weight[0][0].item<float>(), 1 - 0.1 * (1 + 1.9 + 2.71), 1e-6);
}

TEST(SgdTest, GoesOnFromItsStateBitForBit) {
  const OptimizerFixture fixture("sgd");
  // Before and after the first gradient of one of them.
  for (const int at : {2, 4}) fixture.ExpectGoesOnBitForBit(Config(0.9, 0.5, false, 0.1), kNames, at);
  fixture.ExpectGoesOnBitForBit(Config(0.9, 0, true, 0.1), kNames, 4);
}

TEST(SgdTest, WithoutMomentumThereIsNoState) {
  const OptimizerFixture fixture("sgd");
  const auto parameters = fixture.Parameters(kNames);
  const auto plain = BuildPlugin<Optimizer>(Config(0, 0, false, 0), {parameters});
  EXPECT_TRUE(plain->State().tensors.empty());
  EXPECT_TRUE(plain->LoadState({}).ok());
  const auto with_momentum = BuildPlugin<Optimizer>(Sgd(), {parameters});
  EXPECT_EQ(with_momentum->LoadState({}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(plain->LoadState(with_momentum->State()).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SgdTest, AllMistakesOfAConfigComeTogether) {
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(Config(1, -1, true, -1), {}).status()),
              testing::ElementsAre("momentum", "dampening", "nesterov", "weight_decay"));
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(Config(0, 0, true, 0), {}).status()),
              testing::ElementsAre("nesterov"));
}

}  // namespace
}  // namespace graticule
