// What the schedules have in common: a warm-up before, and a cool-down after the schedule proper.
#ifndef GRATICULE_TRAINER_SCHEDULES_PHASES_H_
#define GRATICULE_TRAINER_SCHEDULES_PHASES_H_

#include <cstdint>
#include <optional>

#include "plugin/status.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

// The fields of these names, which every config of a PhasedSchedule has.
struct Phases {
  template <typename Config>
  explicit Phases(const Config& config)
      : warmup_epochs(config.warmup_epochs()),
        warmup_learning_rate(config.warmup_learning_rate()),
        warmup_prefix(config.warmup_prefix()),
        cooldown_epochs(config.cooldown_epochs()) {
    if constexpr (requires { config.min_learning_rate(); }) min_learning_rate = config.min_learning_rate();
  }

  // Adds every mistake in them.
  void Check(const ScheduleContext& context, FieldErrors& errors) const;

  double warmup_epochs;
  double warmup_learning_rate;
  bool warmup_prefix;
  double cooldown_epochs;
  std::optional<double> min_learning_rate;  // only some have it
};

// With the optimizer step s = 0, 1, …, S − 1, the warm-up's W and the cool-down's C steps (epochs · steps per epoch,
// rounded), and the first step s₀ of the schedule proper, W with warmup_prefix, else 0:
//   s < W:          warmup_learning_rate + s / W · (peak − warmup_learning_rate)
//   W ≤ s < S − C:  Proper(s − s₀)
//   s ≥ S − C:      Proper(S − C − s₀), what it ends at
// Warm-up and prefix are timm's. C is less by the steps that trainer.max_steps cuts off. A training that it ends in the
// warm-up never leaves the first line.
class PhasedSchedule : public Schedule {
 public:
  double LearningRate(int64_t step) const final;

 protected:
  PhasedSchedule(const Phases& phases, const ScheduleContext& context);

  // When so many of the length() steps of the schedule proper are over; `steps` == length() is its end.
  virtual double Proper(double steps) const = 0;

  double peak() const { return peak_; }
  double length() const { return length_; }
  double steps_per_epoch() const { return steps_per_epoch_; }
  // Of the schedule proper, 0 to 1.
  double Share(double steps) const { return steps < length_ ? steps / length_ : 1; }

 private:
  double peak_, steps_per_epoch_;
  double warmup_learning_rate_, warmup_steps_;
  double begin_, end_, length_;  // of the schedule proper, in steps
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_PHASES_H_
