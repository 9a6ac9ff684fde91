// Linear warm-up, then down at given epochs.
#ifndef GRATICULE_TRAINER_SCHEDULES_MULTI_STEP_DECAY_MULTI_STEP_DECAY_H_
#define GRATICULE_TRAINER_SCHEDULES_MULTI_STEP_DECAY_MULTI_STEP_DECAY_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/schedules/multi_step_decay/multi_step_decay.pb.h"
#include "trainer/schedules/phases.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class MultiStepDecaySchedule : public PhasedSchedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const MultiStepDecay& config, const ScheduleContext& context);

 private:
  MultiStepDecaySchedule(const MultiStepDecay& config, const ScheduleContext& context);
  double Proper(double steps) const override;

  std::vector<double> milestones_;  // in steps, going up
  double decay_rate_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_MULTI_STEP_DECAY_MULTI_STEP_DECAY_H_
