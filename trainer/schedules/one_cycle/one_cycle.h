// Up to the peak and down again.
#ifndef GRATICULE_TRAINER_SCHEDULES_ONE_CYCLE_ONE_CYCLE_H_
#define GRATICULE_TRAINER_SCHEDULES_ONE_CYCLE_ONE_CYCLE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/one_cycle/one_cycle.pb.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class OneCycleSchedule : public Schedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const OneCycle& config, const ScheduleContext& context);

  double LearningRate(int64_t step) const override;

 private:
  OneCycleSchedule(const OneCycle& config, const ScheduleContext& context);

  double first_, peak_, last_;  // learning rates
  double turn_;                 // the step, not a whole one, at which the way up ends
  double last_step_;
  bool linear_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_ONE_CYCLE_ONE_CYCLE_H_
