#include "trainer/schedules/constant/constant.h"

#include <memory>

#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Schedule>> ConstantSchedule::Create(const Constant& config,
                                                                   const ScheduleContext& context) {
  FieldErrors errors;
  Phases(config).Check(context, errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new ConstantSchedule(config, context));
}

ConstantSchedule::ConstantSchedule(const Constant& config, const ScheduleContext& context)
    : PhasedSchedule(Phases(config), context), min_(config.min_learning_rate()) {}

double ConstantSchedule::Proper(double steps) const { return steps < length() ? peak() : min_; }

namespace {
const Registration<Schedule, Constant> kRegistration("Linear warm-up, then the peak learning rate", "warmup_epochs: 1",
                                                     &ConstantSchedule::Create);
}  // namespace
}  // namespace graticule
