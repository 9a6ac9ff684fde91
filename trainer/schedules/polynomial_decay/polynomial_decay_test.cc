#include "trainer/schedules/polynomial_decay/polynomial_decay.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

TEST(PolynomialDecayTest, ByHand) {
  const ScheduleContext context{.learning_rate = 2, .total_steps = 8, .steps_per_epoch = 4};
  PolynomialDecay config;
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{0, 2}, {2, 1.125}, {4, 0.5}, {6, 0.125}, {8, 0}});
  config.set_power(0.5);
  config.set_min_learning_rate(1);
  config.set_cooldown_epochs(1);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{0, 2}, {3, 1.5}, {4, 1}, {7, 1}});
}

TEST(PolynomialDecayTest, AllMistakesOfAConfigComeTogether) {
  PolynomialDecay config;
  config.set_warmup_epochs(-3);
  config.set_power(0);
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 20, .steps_per_epoch = 5}).status();
  EXPECT_THAT(ErrorPaths(status), ElementsAre("warmup_epochs", "power"));
}

}  // namespace
}  // namespace graticule
