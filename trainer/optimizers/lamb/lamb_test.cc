#include "trainer/optimizers/lamb/lamb.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/ones.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/optimizers/testing.h"

namespace graticule {
namespace {

const std::vector<std::string> kNames = {"weight", "zero", "bias"};
const std::vector<std::pair<std::string, std::string>> kState = {{"exp_avg", "mean"}, {"exp_avg_sq", "mean_square"}};

Lamb Variant() {
  Lamb config;
  config.set_beta1(0.8);
  config.set_beta2(0.95);
  config.set_epsilon(1e-4);
  config.set_weight_decay(0.1);
  config.set_bias_correction(false);
  config.set_max_grad_norm(0);
  config.set_trust_clip(true);
  config.set_always_adapt(true);
  return config;
}

TEST(LambTest, StepsAsTimmDoes) {
  const OptimizerFixture fixture("lamb");
  const auto by_default = fixture.Parameters(kNames), by_variant = fixture.Parameters(kNames);
  fixture.ExpectCase("default", *BuildPlugin<Optimizer>(Lamb(), {by_default}), by_default, kState);
  fixture.ExpectCase("variant", *BuildPlugin<Optimizer>(Variant(), {by_variant}), by_variant, kState);
}

TEST(LambTest, GoesOnFromItsStateBitForBit) {
  const OptimizerFixture fixture("lamb");
  fixture.ExpectGoesOnBitForBit(Lamb(), kNames, 4);
  fixture.ExpectGoesOnBitForBit(Variant(), kNames, 2);
}

// Where a gradient comes later than the others', its means are corrected by its own steps: the first one has Adam's
// size, a rate for each entry.
TEST(LambTest, StepsAreCountedByParameter) {
  Lamb config;
  config.set_weight_decay(0);
  const at::Tensor early = at::ones({3}).set_requires_grad(true), late = at::ones({3}).set_requires_grad(true);
  const auto optimizer = BuildPlugin<Optimizer>(config, {{{"early", early}, {"late", late}}});
  early.mutable_grad() = at::full({3}, 0.1);
  for (int step = 0; step < 3; ++step) optimizer->Step(0.01);
  EXPECT_TRUE(at::equal(late, at::ones({3})));
  late.mutable_grad() = at::full({3}, 0.2);
  optimizer->Step(0.01);
  EXPECT_TRUE(at::allclose(late.detach(), at::full({3}, 0.99), 0, 1e-6));
}

// The norm of the step is the rate times that of the weights.
TEST(LambTest, TheStepIsInProportionToTheWeight) {
  for (const double size : {1e-2, 1.0, 1e3}) {
    const at::Tensor start = at::linspace(-size, size, 10).view({2, 5});
    const at::Tensor weight = start.clone().set_requires_grad(true);
    const auto optimizer = BuildPlugin<Optimizer>(Lamb(), {{{"w", weight}}});
    weight.mutable_grad() = at::linspace(1, 3, 10).view({2, 5});
    optimizer->Step(0.01);
    EXPECT_NEAR(weight.detach().sub(start).norm().item<double>(), 0.01 * start.norm().item<double>(), 1e-5 * size);
  }
}

TEST(LambTest, AllMistakesOfAConfigComeTogether) {
  Lamb config;
  config.set_beta1(1);
  config.set_beta2(-0.1);
  config.set_epsilon(0);
  config.set_weight_decay(-1);
  config.set_max_grad_norm(std::nan(""));
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(config, {}).status()),
              testing::ElementsAre("beta1", "beta2", "epsilon", "weight_decay", "max_grad_norm"));
}

}  // namespace
}  // namespace graticule
