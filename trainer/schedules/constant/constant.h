// Linear warm-up, then the peak.
#ifndef GRATICULE_TRAINER_SCHEDULES_CONSTANT_CONSTANT_H_
#define GRATICULE_TRAINER_SCHEDULES_CONSTANT_CONSTANT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/constant/constant.pb.h"
#include "trainer/schedules/phases.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class ConstantSchedule : public PhasedSchedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const Constant& config, const ScheduleContext& context);

 private:
  ConstantSchedule(const Constant& config, const ScheduleContext& context);
  double Proper(double steps) const override;

  double min_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_CONSTANT_CONSTANT_H_
