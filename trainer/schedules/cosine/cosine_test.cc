#include "trainer/schedules/cosine/cosine.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

TEST(CosineTest, ByHand) {
  const auto plain = BuildPlugin<Schedule>(Cosine(), {.learning_rate = 2, .total_steps = 6, .steps_per_epoch = 3});
  ExpectLearningRates(*plain, {{0, 2}, {1, 1 + std::sqrt(0.75)}, {2, 1.5}, {3, 1}, {4, 0.5}, {6, 0}, {1000, 0}});

  Cosine config;
  config.set_warmup_epochs(0.5);  // of 4 steps
  config.set_warmup_learning_rate(0.5);
  config.set_warmup_prefix(true);
  const auto warmed = BuildPlugin<Schedule>(config, {.learning_rate = 2, .total_steps = 8, .steps_per_epoch = 4});
  ExpectLearningRates(*warmed, {{0, 0.5}, {1, 1.25}, {2, 2}, {4, 1.5}, {5, 1}, {6, 0.5}, {8, 0}});
}

TEST(CosineTest, CooldownRunsAtTheEndOfTheCosine) {
  Cosine config;
  config.set_min_learning_rate(0.4);
  config.set_cooldown_epochs(1.5);
  const auto schedule = BuildPlugin<Schedule>(config, {.learning_rate = 2, .total_steps = 10, .steps_per_epoch = 4});
  ExpectLearningRates(*schedule, {{0, 2}, {2, 1.2}, {4, 0.4}, {5, 0.4}, {9, 0.4}});
}

TEST(CosineTest, CyclesFillTheTraining) {
  Cosine config;
  config.set_cycles(2);
  config.set_cycle_decay(0.5);
  const auto even = BuildPlugin<Schedule>(config, {.learning_rate = 2, .total_steps = 8, .steps_per_epoch = 4});
  ExpectLearningRates(*even, {{0, 2}, {2, 1}, {4, 1}, {6, 0.5}, {8, 0}});
  config.set_cycle_multiplier(3);
  const auto growing = BuildPlugin<Schedule>(config, {.learning_rate = 2, .total_steps = 8, .steps_per_epoch = 4});
  ExpectLearningRates(*growing, {{0, 2}, {1, 1}, {2, 1}, {5, 0.5}, {8, 0}});
}

// Whatever their number, a cycle begins at the whole step where it should.
TEST(CosineTest, RoundingPutsNoCycleOff) {
  for (const int cycles : {3, 7, 49, 100}) {
    Cosine config;
    config.set_cycles(cycles);
    const int64_t steps = 1251;
    const auto schedule =
        BuildPlugin<Schedule>(config, {.learning_rate = 2, .total_steps = cycles * steps, .steps_per_epoch = steps});
    for (int cycle = 0; cycle < cycles; ++cycle) {
      EXPECT_NEAR(schedule->LearningRate(cycle * steps), 2, 1e-9) << cycle << " of " << cycles;
    }
  }
}

TEST(CosineTest, WarmupMayOutlastATrainingThatIsCutShort) {
  Cosine config;
  config.set_warmup_epochs(2);
  config.set_warmup_prefix(true);
  const auto schedule = BuildPlugin<Schedule>(config, {.learning_rate = 1, .total_steps = 4, .steps_per_epoch = 4});
  ExpectLearningRates(*schedule, {{0, 0}, {3, 0.375}, {7, 0.875}, {8, 0}});
}

// As in timm: a tiny batch may scale the peak below the end of the recipe that it tries out.
TEST(CosineTest, ThePeakMayBeBelowTheEnd) {
  Cosine config;
  config.set_min_learning_rate(0.4);
  const auto schedule = BuildPlugin<Schedule>(config, {.learning_rate = 0.2, .total_steps = 4, .steps_per_epoch = 4});
  ExpectLearningRates(*schedule, {{0, 0.2}, {2, 0.3}, {4, 0.4}});
}

TEST(CosineTest, AllMistakesOfAConfigComeTogether) {
  Cosine config;
  config.set_warmup_epochs(-1);
  config.set_warmup_learning_rate(std::numeric_limits<double>::quiet_NaN());
  config.set_min_learning_rate(-0.2);
  config.set_cycles(101);
  config.set_cycle_decay(0);
  config.set_cycle_multiplier(0.001);
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 10, .steps_per_epoch = 5}).status();
  EXPECT_THAT(ErrorPaths(status), ElementsAre("warmup_epochs", "warmup_learning_rate", "min_learning_rate", "cycles",
                                              "cycle_decay", "cycle_multiplier"));
}

}  // namespace
}  // namespace graticule
