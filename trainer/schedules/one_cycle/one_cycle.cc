#include "trainer/schedules/one_cycle/one_cycle.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

double PctStart(const OneCycle& config) { return config.has_pct_start() ? config.pct_start() : 0.3; }
double DivFactor(const OneCycle& config) { return config.has_div_factor() ? config.div_factor() : 25; }
double FinalDivFactor(const OneCycle& config) {
  return config.has_final_div_factor() ? config.final_div_factor() : 1e4;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Schedule>> OneCycleSchedule::Create(const OneCycle& config,
                                                                   const ScheduleContext& context) {
  FieldErrors errors;
  if (const double share = PctStart(config); !(share >= 0 && share <= 1)) {
    errors.Add("pct_start", absl::StrCat("is a share, 0 to 1; found ", share));
  }
  const auto check_factor = [&](const char* field, double factor) {
    if (!(factor >= 1 && std::isfinite(factor))) errors.Add(field, absl::StrCat("must be at least 1, found ", factor));
  };
  check_factor("div_factor", DivFactor(config));
  check_factor("final_div_factor", FinalDivFactor(config));
  if (!OneCycle::Anneal_IsValid(config.anneal())) {
    errors.Add("anneal", absl::StrCat("must be COSINE or LINEAR, found ", config.anneal()));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new OneCycleSchedule(config, context));
}

OneCycleSchedule::OneCycleSchedule(const OneCycle& config, const ScheduleContext& context)
    : first_(context.learning_rate / DivFactor(config)),
      peak_(context.learning_rate),
      last_(first_ / FinalDivFactor(config)),
      turn_(PctStart(config) * static_cast<double>(context.total_steps) - 1),
      last_step_(static_cast<double>(context.total_steps - 1)),
      linear_(config.anneal() == OneCycle::LINEAR) {}

double OneCycleSchedule::LearningRate(int64_t step) const {
  const double s = std::min(static_cast<double>(step), last_step_);
  const auto anneal = [this](double from, double to, double share) {
    return linear_ ? from + (to - from) * share : to + (from - to) / 2 * (1 + std::cos(M_PI * share));
  };
  if (s < turn_) return anneal(first_, peak_, s / turn_);
  // They are equal where all of the training is the way up.
  if (turn_ >= last_step_) return peak_;
  return anneal(peak_, last_, (s - turn_) / (last_step_ - turn_));
}

namespace {
const Registration<Schedule, OneCycle> kRegistration("Up to the peak learning rate and down again", "",
                                                     &OneCycleSchedule::Create);
}  // namespace
}  // namespace graticule
