#include "trainer/schedules/cosine/cosine.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

std::unique_ptr<Schedule> NewSchedule(const Cosine& config, const ScheduleContext& context) {
  auto schedule = Registry<Schedule>::Create(config, context);
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return *std::move(schedule);
}

// 30 epochs of 10 steps.
Cosine TimmConfig(bool warmup_prefix) {
  Cosine config;
  config.set_warmup_epochs(5);
  config.set_warmup_learning_rate(1e-6);
  config.set_min_learning_rate(1e-5);
  config.set_warmup_prefix(warmup_prefix);
  return config;
}

void ExpectLearningRates(const Schedule& schedule, const std::vector<std::pair<int64_t, double>>& expected) {
  for (const auto& [step, learning_rate] : expected) {
    EXPECT_NEAR(schedule.LearningRate(step), learning_rate, 1e-12 * learning_rate) << "step " << step;
  }
}

// The numbers of the next two come from tools/parity/cosine_values.py (timm 1.0.22).
TEST(CosineTest, IsTimmsByDefault) {
  const auto schedule =
      NewSchedule(TimmConfig(false), {.learning_rate = 1e-3, .total_steps = 300, .steps_per_epoch = 10});
  ExpectLearningRates(*schedule, {{0, 1e-06},
                                  {1, 2.0980000000000002e-05},
                                  {25, 0.0005005000000000001},
                                  {49, 0.00098002},
                                  {50, 0.0009336825748732971},
                                  {51, 0.0009310673033669522},
                                  {100, 0.0007525},
                                  {150, 0.000505},
                                  {200, 0.0002574999999999999},
                                  {298, 1.0108561679951479e-05},
                                  {299, 1.002714116407149e-05},
                                  {300, 1e-05}});
}

TEST(CosineTest, IsTimmsWithWarmupPrefix) {
  const auto schedule =
      NewSchedule(TimmConfig(true), {.learning_rate = 1e-3, .total_steps = 300, .steps_per_epoch = 10});
  ExpectLearningRates(*schedule, {{0, 1e-06},
                                  {1, 2.0980000000000002e-05},
                                  {25, 0.0005005000000000001},
                                  {49, 0.00098002},
                                  {50, 0.001},
                                  {51, 0.000999960916880889},
                                  {100, 0.000905463412215599},
                                  {150, 0.000657963412215599},
                                  {200, 0.0003520365877844011},
                                  {298, 1.0156326304766531e-05},
                                  {299, 1.0039083119111025e-05},
                                  {300, 1e-05}});
}

TEST(CosineTest, ByHand) {
  const auto plain = NewSchedule(Cosine(), {.learning_rate = 2, .total_steps = 6, .steps_per_epoch = 3});
  ExpectLearningRates(*plain, {{0, 2}, {1, 1 + std::sqrt(0.75)}, {2, 1.5}, {3, 1}, {4, 0.5}, {6, 0}, {1000, 0}});

  Cosine config;
  config.set_warmup_epochs(0.5);  // of 4 steps
  config.set_warmup_learning_rate(0.5);
  config.set_warmup_prefix(true);
  const auto warmed = NewSchedule(config, {.learning_rate = 2, .total_steps = 8, .steps_per_epoch = 4});
  ExpectLearningRates(*warmed, {{0, 0.5}, {1, 1.25}, {2, 2}, {4, 1.5}, {5, 1}, {6, 0.5}, {8, 0}});
}

TEST(CosineTest, WarmupMayOutlastTheTraining) {
  Cosine config;
  config.set_warmup_epochs(2);
  config.set_warmup_prefix(true);
  const auto schedule = NewSchedule(config, {.learning_rate = 1, .total_steps = 4, .steps_per_epoch = 4});
  ExpectLearningRates(*schedule, {{0, 0}, {3, 0.375}, {7, 0.875}, {8, 0}});
}

// As in timm: a tiny batch may scale the peak below the end of the recipe that it tries out.
TEST(CosineTest, ThePeakMayBeBelowTheEnd) {
  Cosine config;
  config.set_min_learning_rate(0.4);
  const auto schedule = NewSchedule(config, {.learning_rate = 0.2, .total_steps = 4, .steps_per_epoch = 4});
  ExpectLearningRates(*schedule, {{0, 0.2}, {2, 0.3}, {4, 0.4}});
}

TEST(CosineTest, AllMistakesOfAConfigComeTogether) {
  Cosine config;
  config.set_warmup_epochs(-1);
  config.set_warmup_learning_rate(std::numeric_limits<double>::quiet_NaN());
  config.set_min_learning_rate(-0.2);
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 10, .steps_per_epoch = 5}).status();
  EXPECT_THAT(ErrorPaths(status), testing::ElementsAre("warmup_epochs", "warmup_learning_rate", "min_learning_rate"));
}

}  // namespace
}  // namespace graticule
