// Linear warm-up, then half a cosine, once or several times.
#ifndef GRATICULE_TRAINER_SCHEDULES_COSINE_COSINE_H_
#define GRATICULE_TRAINER_SCHEDULES_COSINE_COSINE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/cosine/cosine.pb.h"
#include "trainer/schedules/phases.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class CosineSchedule : public PhasedSchedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const Cosine& config, const ScheduleContext& context);

 private:
  CosineSchedule(const Cosine& config, const ScheduleContext& context);
  double Proper(double steps) const override;

  double min_;
  int cycles_;
  double cycle_decay_, cycle_multiplier_;
  double first_cycle_;  // its length in steps
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_COSINE_COSINE_H_
