// The interface of the learning-rate schedules.
#ifndef GRATICULE_TRAINER_SCHEDULES_SCHEDULE_H_
#define GRATICULE_TRAINER_SCHEDULES_SCHEDULE_H_

#include <cstdint>

namespace graticule {

struct ScheduleContext {
  double learning_rate = 0;     // peak
  int64_t total_steps = 0;      // optimizer steps of the whole training
  int64_t steps_per_epoch = 0;  // optimizer steps
  // What the spec says, by which its mistakes are found; the training may end earlier (trainer.max_steps). 0: unknown.
  int64_t epochs = 0;
};

class Schedule {
 public:
  static constexpr char kKind[] = "schedule";
  using Context = ScheduleContext;
  virtual ~Schedule() = default;

  // Of the optimizer step with this number, from 0. A function of the step alone.
  virtual double LearningRate(int64_t step) const = 0;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_SCHEDULE_H_
