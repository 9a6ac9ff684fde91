#include "trainer/schedules/cosine/cosine.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

double CycleDecay(const Cosine& config) { return config.has_cycle_decay() ? config.cycle_decay() : 1; }
double CycleMultiplier(const Cosine& config) { return config.has_cycle_multiplier() ? config.cycle_multiplier() : 1; }

}  // namespace

absl::StatusOr<std::unique_ptr<Schedule>> CosineSchedule::Create(const Cosine& config, const ScheduleContext& context) {
  FieldErrors errors;
  Phases(config).Check(context, errors);
  if (config.cycles() < 0 || config.cycles() > 100) {
    errors.Add("cycles", absl::StrCat("must be 1 to 100, found ", config.cycles()));
  }
  if (const double decay = CycleDecay(config); !(decay > 0 && decay <= 1)) {
    errors.Add("cycle_decay", absl::StrCat("must be in (0, 1], found ", decay));
  }
  if (const double multiplier = CycleMultiplier(config); !(multiplier >= 0.01 && multiplier <= 100)) {
    errors.Add("cycle_multiplier", absl::StrCat("must be 0.01 to 100, found ", multiplier));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Schedule>(new CosineSchedule(config, context));
}

CosineSchedule::CosineSchedule(const Cosine& config, const ScheduleContext& context)
    : PhasedSchedule(Phases(config), context),
      min_(config.min_learning_rate()),
      cycles_(std::max(1, config.cycles())),
      cycle_decay_(CycleDecay(config)),
      cycle_multiplier_(CycleMultiplier(config)) {
  double firsts = 0, multiple = 1;  // all cycles' length, in first ones
  for (int cycle = 0; cycle < cycles_; ++cycle, multiple *= cycle_multiplier_) firsts += multiple;
  first_cycle_ = length() / firsts;
}

double CosineSchedule::Proper(double steps) const {
  if (steps >= length()) return min_;
  double begin = 0, length = first_cycle_, peak = this->peak();
  // A cycle begins at a whole step; what its length's rounding errors add up to must not put that off by one.
  for (int cycle = 1; cycle < cycles_ && steps >= begin + length - 1e-6; ++cycle) {
    begin += length;
    length *= cycle_multiplier_;
    peak *= cycle_decay_;
  }
  return min_ + 0.5 * (peak - min_) * (1 + std::cos(M_PI * (steps - begin) / length));
}

namespace {
const Registration<Schedule, Cosine> kRegistration("Linear warm-up, then half a cosine", "warmup_epochs: 1",
                                                   &CosineSchedule::Create);
}  // namespace
}  // namespace graticule
