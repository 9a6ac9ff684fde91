#include "trainer/schedules/phases.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace graticule {

void Phases::Check(const ScheduleContext& context, FieldErrors& errors) const {
  const auto not_negative = [&](const char* field, double value) {
    if (!(value >= 0 && std::isfinite(value))) errors.Add(field, absl::StrCat("must not be negative, found ", value));
  };
  not_negative("warmup_epochs", warmup_epochs);
  not_negative("warmup_learning_rate", warmup_learning_rate);
  not_negative("cooldown_epochs", cooldown_epochs);
  const double both = warmup_epochs + cooldown_epochs;
  if (context.epochs > 0 && std::isfinite(both) && both > static_cast<double>(context.epochs)) {
    errors.Add(cooldown_epochs > 0 ? "cooldown_epochs" : "warmup_epochs",
               absl::StrCat(warmup_epochs, " epochs of warm-up",
                            cooldown_epochs > 0 ? absl::StrCat(" and ", cooldown_epochs, " of cool-down") : "",
                            " are more than the training's ", context.epochs));
  }
  if (!min_learning_rate.has_value()) return;
  not_negative("min_learning_rate", *min_learning_rate);
  if (cooldown_epochs > 0 && *min_learning_rate == 0) {
    errors.Add("min_learning_rate", "must be positive where there is a cool-down, which runs at it");
  }
}

namespace {

// Of the cool-down what trainer.max_steps leaves, which cuts the training's end off.
double CooldownSteps(const Phases& phases, const ScheduleContext& context) {
  const int64_t cut = std::max<int64_t>(0, context.epochs * context.steps_per_epoch - context.total_steps);
  const double steps = std::round(phases.cooldown_epochs * static_cast<double>(context.steps_per_epoch));
  return std::max(0.0, steps - static_cast<double>(cut));
}

}  // namespace

PhasedSchedule::PhasedSchedule(const Phases& phases, const ScheduleContext& context)
    : peak_(context.learning_rate),
      steps_per_epoch_(static_cast<double>(context.steps_per_epoch)),
      warmup_learning_rate_(phases.warmup_learning_rate),
      warmup_steps_(std::round(phases.warmup_epochs * steps_per_epoch_)),
      begin_(phases.warmup_prefix ? warmup_steps_ : 0),
      end_(static_cast<double>(context.total_steps) - CooldownSteps(phases, context)),
      length_(std::max(0.0, end_ - begin_)) {}

double PhasedSchedule::LearningRate(int64_t step) const {
  const double s = static_cast<double>(step);
  if (s < warmup_steps_) return warmup_learning_rate_ + s / warmup_steps_ * (peak_ - warmup_learning_rate_);
  return Proper(std::min(s - begin_, length_));
}

}  // namespace graticule
