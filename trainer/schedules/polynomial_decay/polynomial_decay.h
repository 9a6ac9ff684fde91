// Linear warm-up, then a polynomial down.
#ifndef GRATICULE_TRAINER_SCHEDULES_POLYNOMIAL_DECAY_POLYNOMIAL_DECAY_H_
#define GRATICULE_TRAINER_SCHEDULES_POLYNOMIAL_DECAY_POLYNOMIAL_DECAY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/phases.h"
#include "trainer/schedules/polynomial_decay/polynomial_decay.pb.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class PolynomialDecaySchedule : public PhasedSchedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const PolynomialDecay& config,
                                                          const ScheduleContext& context);

 private:
  PolynomialDecaySchedule(const PolynomialDecay& config, const ScheduleContext& context);
  double Proper(double steps) const override;

  double min_, power_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_POLYNOMIAL_DECAY_POLYNOMIAL_DECAY_H_
