#include "trainer/schedules/step_decay/step_decay.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

double DecayRate(const StepDecay& config) { return config.has_decay_rate() ? config.decay_rate() : 0.1; }

}  // namespace

absl::StatusOr<std::unique_ptr<Schedule>> StepDecaySchedule::Create(const StepDecay& config,
                                                                    const ScheduleContext& context) {
  FieldErrors errors;
  Phases(config).Check(context, errors);
  if (!(config.decay_epochs() > 0 && std::isfinite(config.decay_epochs()))) {
    errors.Add("decay_epochs", absl::StrCat("must be positive, found ", config.decay_epochs()));
  }
  if (const double rate = DecayRate(config); !(rate > 0 && rate <= 1)) {
    errors.Add("decay_rate", absl::StrCat("must be in (0, 1], found ", rate));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new StepDecaySchedule(config, context));
}

StepDecaySchedule::StepDecaySchedule(const StepDecay& config, const ScheduleContext& context)
    : PhasedSchedule(Phases(config), context),
      decay_steps_(std::max(1.0, std::round(config.decay_epochs() * steps_per_epoch()))),
      decay_rate_(DecayRate(config)) {}

double StepDecaySchedule::Proper(double steps) const {
  return peak() * std::pow(decay_rate_, std::floor(steps / decay_steps_));
}

namespace {
const Registration<Schedule, StepDecay> kRegistration("Linear warm-up, then down by a factor every so many epochs",
                                                      "decay_epochs: 0.5", &StepDecaySchedule::Create);
}  // namespace
}  // namespace graticule
