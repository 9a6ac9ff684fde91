#include "trainer/schedules/linear_decay/linear_decay.h"

#include <memory>

#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Schedule>> LinearDecaySchedule::Create(const LinearDecay& config,
                                                                      const ScheduleContext& context) {
  FieldErrors errors;
  Phases(config).Check(context, errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new LinearDecaySchedule(config, context));
}

LinearDecaySchedule::LinearDecaySchedule(const LinearDecay& config, const ScheduleContext& context)
    : PhasedSchedule(Phases(config), context), min_(config.min_learning_rate()) {}

double LinearDecaySchedule::Proper(double steps) const { return min_ + (peak() - min_) * (1 - Share(steps)); }

namespace {
const Registration<Schedule, LinearDecay> kRegistration("Linear warm-up, then linearly down", "warmup_epochs: 1",
                                                        &LinearDecaySchedule::Create);
}  // namespace
}  // namespace graticule
