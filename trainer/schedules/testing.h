// What the tests of the schedules share.
#ifndef GRATICULE_TRAINER_SCHEDULES_TESTING_H_
#define GRATICULE_TRAINER_SCHEDULES_TESTING_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

// Steps and their learning rates.
inline void ExpectLearningRates(const Schedule& schedule, const std::vector<std::pair<int64_t, double>>& expected) {
  for (const auto& [step, learning_rate] : expected) {
    EXPECT_NEAR(schedule.LearningRate(step), learning_rate, 1e-12 * learning_rate) << "step " << step;
  }
}

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_TESTING_H_
