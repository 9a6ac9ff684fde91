#include "trainer/schedules/polynomial_decay/polynomial_decay.h"

#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

double Power(const PolynomialDecay& config) { return config.has_power() ? config.power() : 2; }

}  // namespace

absl::StatusOr<std::unique_ptr<Schedule>> PolynomialDecaySchedule::Create(const PolynomialDecay& config,
                                                                          const ScheduleContext& context) {
  FieldErrors errors;
  Phases(config).Check(context, errors);
  if (const double power = Power(config); !(power > 0 && std::isfinite(power))) {
    errors.Add("power", absl::StrCat("must be positive, found ", power));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new PolynomialDecaySchedule(config, context));
}

PolynomialDecaySchedule::PolynomialDecaySchedule(const PolynomialDecay& config, const ScheduleContext& context)
    : PhasedSchedule(Phases(config), context), min_(config.min_learning_rate()), power_(Power(config)) {}

double PolynomialDecaySchedule::Proper(double steps) const {
  return min_ + (peak() - min_) * std::pow(1 - Share(steps), power_);
}

namespace {
const Registration<Schedule, PolynomialDecay> kRegistration("Linear warm-up, then a polynomial down",
                                                            "warmup_epochs: 1", &PolynomialDecaySchedule::Create);
}  // namespace
}  // namespace graticule
