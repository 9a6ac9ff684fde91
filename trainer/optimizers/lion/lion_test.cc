#include "trainer/optimizers/lion/lion.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/optimizers/testing.h"

namespace graticule {
namespace {

const std::vector<std::string> kNames = {"weight", "bias", "late"};

Lion Variant() {
  Lion config;
  config.set_beta1(0.8);
  config.set_beta2(0.95);
  config.set_weight_decay(0.3);
  return config;
}

TEST(LionTest, StepsAsTimmDoes) {
  const OptimizerFixture fixture("lion");
  const auto by_default = fixture.Parameters(kNames), by_variant = fixture.Parameters(kNames);
  fixture.ExpectCase("default", *BuildPlugin<Optimizer>(Lion(), {by_default}), by_default, {{"exp_avg", "exp_avg"}});
  fixture.ExpectCase("variant", *BuildPlugin<Optimizer>(Variant(), {by_variant}), by_variant, {{"exp_avg", "exp_avg"}});
}

TEST(LionTest, GoesOnFromItsStateBitForBit) { OptimizerFixture("lion").ExpectGoesOnBitForBit(Variant(), kNames, 4); }

TEST(LionTest, AllMistakesOfAConfigComeTogether) {
  Lion config;
  config.set_beta1(1);
  config.set_beta2(-0.1);
  config.set_weight_decay(-1);
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(config, {}).status()),
              testing::ElementsAre("beta1", "beta2", "weight_decay"));
}

}  // namespace
}  // namespace graticule
