#include "trainer/schedules/constant/constant.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

TEST(ConstantTest, ByHand) {
  const ScheduleContext context{.learning_rate = 2, .total_steps = 12, .steps_per_epoch = 4};
  ExpectLearningRates(*BuildPlugin<Schedule>(Constant(), context), {{0, 2}, {5, 2}, {11, 2}});
  for (const bool prefix : {false, true}) {
    Constant config;
    config.set_warmup_epochs(1);
    config.set_warmup_prefix(prefix);
    config.set_cooldown_epochs(0.5);
    config.set_min_learning_rate(0.25);
    const auto schedule = BuildPlugin<Schedule>(config, context);
    ExpectLearningRates(*schedule, {{0, 0}, {3, 1.5}, {4, 2}, {9, 2}, {10, 0.25}, {11, 0.25}});
  }
}

TEST(ConstantTest, AllMistakesOfAConfigComeTogether) {
  Constant config;
  config.set_warmup_epochs(-1);
  config.set_cooldown_epochs(1);
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 20, .steps_per_epoch = 5}).status();
  EXPECT_THAT(ErrorPaths(status), ElementsAre("warmup_epochs", "min_learning_rate"));
}

}  // namespace
}  // namespace graticule
