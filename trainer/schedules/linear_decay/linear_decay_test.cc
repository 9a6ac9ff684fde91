#include "trainer/schedules/linear_decay/linear_decay.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"
#include "trainer/schedules/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

TEST(LinearDecayTest, ByHand) {
  const auto plain = BuildPlugin<Schedule>(LinearDecay(), {.learning_rate = 2, .total_steps = 8, .steps_per_epoch = 4});
  ExpectLearningRates(*plain, {{0, 2}, {1, 1.75}, {4, 1}, {7, 0.25}, {8, 0}, {1000, 0}});

  LinearDecay config;
  config.set_warmup_epochs(1);
  config.set_warmup_learning_rate(0.4);
  config.set_warmup_prefix(true);
  config.set_min_learning_rate(1);
  config.set_cooldown_epochs(1);
  const auto all = BuildPlugin<Schedule>(config, {.learning_rate = 2, .total_steps = 12, .steps_per_epoch = 4});
  ExpectLearningRates(*all, {{0, 0.4}, {1, 0.8}, {4, 2}, {5, 1.75}, {7, 1.25}, {8, 1}, {11, 1}});
}

TEST(LinearDecayTest, AllMistakesOfAConfigComeTogether) {
  LinearDecay config;
  config.set_warmup_epochs(3);
  config.set_cooldown_epochs(2);
  const absl::Status status =
      Registry<Schedule>::Create(config, {.learning_rate = 0.1, .total_steps = 20, .steps_per_epoch = 5, .epochs = 4})
          .status();
  EXPECT_THAT(ErrorPaths(status), ElementsAre("cooldown_epochs", "min_learning_rate"));
}

}  // namespace
}  // namespace graticule
