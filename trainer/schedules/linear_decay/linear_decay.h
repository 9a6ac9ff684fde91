// Linear warm-up, then linearly down.
#ifndef GRATICULE_TRAINER_SCHEDULES_LINEAR_DECAY_LINEAR_DECAY_H_
#define GRATICULE_TRAINER_SCHEDULES_LINEAR_DECAY_LINEAR_DECAY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/linear_decay/linear_decay.pb.h"
#include "trainer/schedules/phases.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class LinearDecaySchedule : public PhasedSchedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const LinearDecay& config, const ScheduleContext& context);

 private:
  LinearDecaySchedule(const LinearDecay& config, const ScheduleContext& context);
  double Proper(double steps) const override;

  double min_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_LINEAR_DECAY_LINEAR_DECAY_H_
