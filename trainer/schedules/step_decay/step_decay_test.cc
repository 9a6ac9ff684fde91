#include "trainer/schedules/step_decay/step_decay.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

TEST(StepDecayTest, ByHand) {
  const ScheduleContext context{.learning_rate = 8, .total_steps = 20, .steps_per_epoch = 4};
  StepDecay config;
  config.set_decay_epochs(1.5);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{0, 8}, {5, 8}, {6, 0.8}, {11, 0.8}, {12, 0.08}});
  config.set_decay_rate(0.5);
  config.set_warmup_epochs(1);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{3, 6}, {4, 8}, {5, 8}, {6, 4}, {12, 2}, {18, 1}});
  config.set_warmup_prefix(true);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{3, 6}, {4, 8}, {9, 8}, {10, 4}, {16, 2}, {19, 2}});
  // It ends after 12 steps, at a decay, and so it stays.
  config.set_cooldown_epochs(2);
  config.set_warmup_prefix(false);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{11, 4}, {12, 2}, {18, 2}, {19, 2}});
}

TEST(StepDecayTest, ADecayComesAtTheWholeStep) {
  for (const double epochs : {0.7, 1.1, 2.4, 0.001}) {
    StepDecay config;
    config.set_decay_epochs(epochs);
    config.set_decay_rate(0.5);
    const auto schedule =
        BuildPlugin<Schedule>(config, {.learning_rate = 1, .total_steps = 1000, .steps_per_epoch = 10});
    const auto steps = std::max<int64_t>(1, std::llround(epochs * 10));
    for (int64_t decays = 1; decays < 9; ++decays) {
      ExpectLearningRates(*schedule,
                          {{decays * steps - 1, std::exp2(1 - decays)}, {decays * steps, std::exp2(-decays)}});
    }
  }
}

TEST(StepDecayTest, AllMistakesOfAConfigComeTogether) {
  StepDecay config;
  config.set_warmup_learning_rate(-1);
  config.set_decay_rate(2);
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 20, .steps_per_epoch = 5}).status();
  EXPECT_THAT(ErrorPaths(status), ElementsAre("warmup_learning_rate", "decay_epochs", "decay_rate"));
}

}  // namespace
}  // namespace graticule
