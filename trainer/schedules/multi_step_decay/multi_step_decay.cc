#include "trainer/schedules/multi_step_decay/multi_step_decay.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

double DecayRate(const MultiStepDecay& config) { return config.has_decay_rate() ? config.decay_rate() : 0.1; }

void CheckMilestones(const MultiStepDecay& config, const ScheduleContext& context, FieldErrors& errors) {
  if (config.milestones().empty())
    errors.Add("milestones", "must be given: epochs at whose end the learning rate falls");
  const double end = static_cast<double>(context.epochs) - (config.warmup_prefix() ? config.warmup_epochs() : 0) -
                     config.cooldown_epochs();
  double previous = 0;
  for (int i = 0; i < config.milestones_size(); ++i) {
    const double epoch = config.milestones(i);
    const std::string path = absl::StrCat("milestones[", i, "]");
    if (!(epoch > previous && std::isfinite(epoch))) {
      errors.Add(path, absl::StrCat("must be more than ", previous, ", found ", epoch));
    } else if (context.epochs > 0 && epoch >= end) {
      errors.Add(path, absl::StrCat("must come before the end, after ", end, " epochs, found ", epoch));
    }
    previous = epoch;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Schedule>> MultiStepDecaySchedule::Create(const MultiStepDecay& config,
                                                                         const ScheduleContext& context) {
  FieldErrors errors;
  Phases(config).Check(context, errors);
  CheckMilestones(config, context, errors);
  if (const double rate = DecayRate(config); !(rate > 0 && rate <= 1)) {
    errors.Add("decay_rate", absl::StrCat("must be in (0, 1], found ", rate));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new MultiStepDecaySchedule(config, context));
}

MultiStepDecaySchedule::MultiStepDecaySchedule(const MultiStepDecay& config, const ScheduleContext& context)
    : PhasedSchedule(Phases(config), context), decay_rate_(DecayRate(config)) {
  for (const double epoch : config.milestones()) milestones_.push_back(std::round(epoch * steps_per_epoch()));
}

double MultiStepDecaySchedule::Proper(double steps) const {
  const auto passed = std::upper_bound(milestones_.begin(), milestones_.end(), steps) - milestones_.begin();
  return peak() * std::pow(decay_rate_, passed);
}

namespace {
const Registration<Schedule, MultiStepDecay> kRegistration("Linear warm-up, then down by a factor at given epochs",
                                                           "milestones: [0.5, 0.8]", &MultiStepDecaySchedule::Create);
}  // namespace
}  // namespace graticule
