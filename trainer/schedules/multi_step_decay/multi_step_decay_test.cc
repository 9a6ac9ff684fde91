#include "trainer/schedules/multi_step_decay/multi_step_decay.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

TEST(MultiStepDecayTest, ByHand) {
  const ScheduleContext context{.learning_rate = 8, .total_steps = 20, .steps_per_epoch = 4, .epochs = 5};
  MultiStepDecay config;
  config.add_milestones(1);
  config.add_milestones(2.5);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context),
                      {{0, 8}, {3, 8}, {4, 0.8}, {9, 0.8}, {10, 0.08}, {19, 0.08}});
  config.set_decay_rate(0.5);
  config.set_warmup_epochs(2);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{4, 4}, {7, 7}, {8, 4}, {9, 4}, {10, 2}, {19, 2}});
  config.set_warmup_prefix(true);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context), {{7, 7}, {8, 8}, {11, 8}, {12, 4}, {17, 4}, {18, 2}});
}

TEST(MultiStepDecayTest, AllMistakesOfAConfigComeTogether) {
  const ScheduleContext context{.learning_rate = 0.1, .total_steps = 50, .steps_per_epoch = 5, .epochs = 10};
  MultiStepDecay config;
  config.set_decay_rate(0);
  EXPECT_THAT(ErrorPaths(Registry<Schedule>::Create(config, context).status()),
              ElementsAre("milestones", "decay_rate"));

  config.set_decay_rate(1);
  config.set_warmup_epochs(1);
  config.set_cooldown_epochs(2);
  for (const double epoch : {0.0, 3.0, 2.0, 7.9, 8.0}) config.add_milestones(epoch);
  auto errors = Errors(Registry<Schedule>::Create(config, context).status());
  EXPECT_EQ(errors.size(), 3);
  EXPECT_EQ(errors["milestones[0]"], "must be more than 0, found 0");
  EXPECT_EQ(errors["milestones[2]"], "must be more than 3, found 2");
  EXPECT_EQ(errors["milestones[4]"], "must come before the end, after 8 epochs, found 8");
  config.set_warmup_prefix(true);
  errors = Errors(Registry<Schedule>::Create(config, context).status());
  EXPECT_EQ(errors["milestones[3]"], "must come before the end, after 7 epochs, found 7.9");
}

}  // namespace
}  // namespace graticule
