// Linear warm-up, then down in equal intervals.
#ifndef GRATICULE_TRAINER_SCHEDULES_STEP_DECAY_STEP_DECAY_H_
#define GRATICULE_TRAINER_SCHEDULES_STEP_DECAY_STEP_DECAY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/phases.h"
#include "trainer/schedules/schedule.h"
#include "trainer/schedules/step_decay/step_decay.pb.h"

namespace graticule {

class StepDecaySchedule : public PhasedSchedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const StepDecay& config, const ScheduleContext& context);

 private:
  StepDecaySchedule(const StepDecay& config, const ScheduleContext& context);
  double Proper(double steps) const override;

  double decay_steps_, decay_rate_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_STEP_DECAY_STEP_DECAY_H_
