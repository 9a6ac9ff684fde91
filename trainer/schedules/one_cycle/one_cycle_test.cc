#include "trainer/schedules/one_cycle/one_cycle.h"

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

TEST(OneCycleTest, ByHand) {
  OneCycle config;
  config.set_pct_start(0.5);
  config.set_div_factor(4);
  config.set_final_div_factor(10);
  config.set_anneal(OneCycle::LINEAR);
  const ScheduleContext context{.learning_rate = 8, .total_steps = 10, .steps_per_epoch = 5};
  // Up over steps 0 to 4, down over steps 4 to 9.
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context),
                      {{0, 2}, {1, 3.5}, {2, 5}, {4, 8}, {5, 8 - 7.8 / 5}, {9, 0.2}, {1000, 0.2}});
  config.set_anneal(OneCycle::COSINE);
  ExpectLearningRates(*BuildPlugin<Schedule>(config, context),
                      {{0, 2}, {1, 5 - 3 * std::sqrt(0.5)}, {2, 5}, {3, 5 + 3 * std::sqrt(0.5)}, {4, 8}, {9, 0.2}});
}

TEST(OneCycleTest, ShortTrainings) {
  for (const double pct_start : {0.0, 0.3, 0.5, 1.0}) {
    for (int64_t steps = 1; steps < 5; ++steps) {
      OneCycle config;
      config.set_pct_start(pct_start);
      const auto schedule = BuildPlugin<Schedule>(config, {.learning_rate = 1, .total_steps = steps});
      for (int64_t step = 0; step < steps; ++step) {
        EXPECT_GT(schedule->LearningRate(step), 0) << step << " of " << steps << ", up by " << pct_start;
        EXPECT_LE(schedule->LearningRate(step), 1) << step << " of " << steps << ", up by " << pct_start;
      }
    }
  }
}

TEST(OneCycleTest, AllMistakesOfAConfigComeTogether) {
  OneCycle config;
  config.set_pct_start(1.5);
  config.set_div_factor(0.5);
  config.set_final_div_factor(-1);
  config.set_anneal(static_cast<OneCycle::Anneal>(9));
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 20, .steps_per_epoch = 5}).status();
  EXPECT_THAT(ErrorPaths(status), ElementsAre("pct_start", "div_factor", "final_div_factor", "anneal"));
}

}  // namespace
}  // namespace graticule
