#include "trainer/schedules/cosine/cosine.h"

#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Schedule>> CosineSchedule::Create(const Cosine& config, const ScheduleContext& context) {
  FieldErrors errors;
  const auto check = [&](const char* field, double value) {
    if (!(value >= 0 && std::isfinite(value))) errors.Add(field, absl::StrCat("must not be negative, found ", value));
  };
  check("warmup_epochs", config.warmup_epochs());
  check("warmup_learning_rate", config.warmup_learning_rate());
  check("min_learning_rate", config.min_learning_rate());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new CosineSchedule(config, context));
}

CosineSchedule::CosineSchedule(const Cosine& config, const ScheduleContext& context)
    : config_(config),
      peak_(context.learning_rate),
      total_steps_(static_cast<double>(context.total_steps)),
      warmup_steps_(std::round(config.warmup_epochs() * static_cast<double>(context.steps_per_epoch))) {}

double CosineSchedule::LearningRate(int64_t step) const {
  const double s = static_cast<double>(step);
  if (s < warmup_steps_) {
    return config_.warmup_learning_rate() + s / warmup_steps_ * (peak_ - config_.warmup_learning_rate());
  }
  if (s >= total_steps_) return config_.min_learning_rate();
  const double start = config_.warmup_prefix() ? warmup_steps_ : 0;
  const double share = (s - start) / (total_steps_ - start);
  return config_.min_learning_rate() + 0.5 * (peak_ - config_.min_learning_rate()) * (1 + std::cos(M_PI * share));
}

namespace {
const Registration<Schedule, Cosine> kRegistration("Linear warm-up, then half a cosine", "warmup_epochs: 1",
                                                   &CosineSchedule::Create);
}  // namespace
}  // namespace graticule
