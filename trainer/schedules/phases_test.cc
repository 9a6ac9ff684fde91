#include "trainer/schedules/phases.h"

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

// What the configs look like.
struct Config {
  double warmup_epochs() const { return warmup; }
  double warmup_learning_rate() const { return warmup_rate; }
  bool warmup_prefix() const { return prefix; }
  double cooldown_epochs() const { return cooldown; }

  double warmup = 0, warmup_rate = 0, cooldown = 0;
  bool prefix = false;
};

struct ConfigWithMin : Config {
  double min_learning_rate() const { return min; }

  double min = 0;
};

// Says which step of the schedule proper it is at.
class CountingSchedule : public PhasedSchedule {
 public:
  CountingSchedule(const Config& config, const ScheduleContext& context) : PhasedSchedule(Phases(config), context) {}
  using PhasedSchedule::length;
  using PhasedSchedule::Share;

 private:
  double Proper(double steps) const override { return 100 + steps; }
};

// 10 epochs of 4 steps.
constexpr ScheduleContext kContext = {.learning_rate = 2, .total_steps = 40, .steps_per_epoch = 4, .epochs = 10};

TEST(PhasesTest, WithoutAnyTheScheduleProperIsAll) {
  const CountingSchedule schedule({}, kContext);
  EXPECT_EQ(schedule.length(), 40);
  ExpectLearningRates(schedule, {{0, 100}, {1, 101}, {39, 139}, {40, 140}, {1000, 140}});
  EXPECT_EQ(schedule.Share(10), 0.25);
  EXPECT_EQ(schedule.Share(40), 1);
}

TEST(PhasesTest, WarmupHidesTheBeginningOrComesBeforeIt) {
  const Config config{.warmup = 1.5, .warmup_rate = 0.5};  // 6 steps
  ExpectLearningRates(CountingSchedule(config, kContext),
                      {{0, 0.5}, {1, 0.75}, {5, 1.75}, {6, 106}, {39, 139}, {40, 140}});
  Config prefixed = config;
  prefixed.prefix = true;
  ExpectLearningRates(CountingSchedule(prefixed, kContext), {{0, 0.5}, {5, 1.75}, {6, 100}, {39, 133}, {40, 134}});
}

TEST(PhasesTest, CooldownEndsTheScheduleEarlier) {
  Config config{.warmup = 1, .cooldown = 2.5};  // 4 and 10 steps
  const CountingSchedule hidden(config, kContext);
  EXPECT_EQ(hidden.length(), 30);
  ExpectLearningRates(hidden, {{0, 0}, {3, 1.5}, {4, 104}, {29, 129}, {30, 130}, {31, 130}, {39, 130}});
  config.prefix = true;
  const CountingSchedule prefixed(config, kContext);
  EXPECT_EQ(prefixed.length(), 26);
  ExpectLearningRates(prefixed, {{4, 100}, {29, 125}, {30, 126}, {39, 126}});
}

TEST(PhasesTest, ATrainingThatIsCutShortKeepsItsWarmup) {
  ScheduleContext cut = kContext;
  cut.total_steps = 6;  // trainer.max_steps
  for (const bool prefix : {false, true}) {
    const Config config{.warmup = 2, .cooldown = 1, .prefix = prefix};
    ExpectLearningRates(CountingSchedule(config, cut), {{0, 0}, {4, 1}, {5, 1.25}, {7, 1.75}});
  }
  const CountingSchedule nothing_left({.warmup = 1, .cooldown = 9, .prefix = true}, cut);
  EXPECT_EQ(nothing_left.length(), 0);
  EXPECT_EQ(nothing_left.Share(0), 1);
  ExpectLearningRates(nothing_left, {{3, 1.5}, {4, 100}, {5, 100}});
}

TEST(PhasesTest, WhatIsCutIsTheCooldownFirst) {
  const Config config{.cooldown = 2.5};  // 10 steps of 40
  for (const auto& [total, length] : std::map<int64_t, double>{{40, 30}, {38, 30}, {30, 30}, {8, 8}}) {
    ScheduleContext cut = kContext;
    cut.total_steps = total;
    EXPECT_EQ(CountingSchedule(config, cut).length(), length) << total;
  }
}

absl::Status CheckPhases(const Phases& phases, const ScheduleContext& context = kContext) {
  FieldErrors errors;
  phases.Check(context, errors);
  return errors.ToStatus();
}

TEST(PhasesTest, WarmupAndCooldownMustFitIntoTheTraining) {
  const Config fits{.warmup = 4, .cooldown = 6}, too_long{.warmup = 4, .cooldown = 6.5}, warmup{.warmup = 11};
  EXPECT_TRUE(CheckPhases(Phases(fits)).ok());
  EXPECT_EQ(Errors(CheckPhases(Phases(too_long)))["cooldown_epochs"],
            "4 epochs of warm-up and 6.5 of cool-down are more than the training's 10");
  EXPECT_EQ(Errors(CheckPhases(Phases(warmup)))["warmup_epochs"],
            "11 epochs of warm-up are more than the training's 10");
  ScheduleContext unknown = kContext;
  unknown.epochs = 0;
  EXPECT_TRUE(CheckPhases(Phases(too_long), unknown).ok());
}

TEST(PhasesTest, ACooldownNeedsALearningRate) {
  ConfigWithMin config;
  EXPECT_TRUE(CheckPhases(Phases(config)).ok());
  config.cooldown = 1;
  EXPECT_THAT(ErrorPaths(CheckPhases(Phases(config))), ElementsAre("min_learning_rate"));
  config.min = 1e-5;
  EXPECT_TRUE(CheckPhases(Phases(config)).ok());
}

TEST(PhasesTest, AllMistakesComeTogether) {
  ConfigWithMin config;
  config.warmup = -1;
  config.warmup_rate = std::numeric_limits<double>::quiet_NaN();
  config.cooldown = std::numeric_limits<double>::infinity();
  config.min = -0.2;
  EXPECT_THAT(ErrorPaths(CheckPhases(Phases(config))),
              ElementsAre("warmup_epochs", "warmup_learning_rate", "cooldown_epochs", "min_learning_rate"));
}

}  // namespace
}  // namespace graticule
