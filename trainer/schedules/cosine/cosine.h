// Linear warm-up, then half a cosine.
#ifndef GRATICULE_TRAINER_SCHEDULES_COSINE_COSINE_H_
#define GRATICULE_TRAINER_SCHEDULES_COSINE_COSINE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "trainer/schedules/cosine/cosine.pb.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

class CosineSchedule : public Schedule {
 public:
  static absl::StatusOr<std::unique_ptr<Schedule>> Create(const Cosine& config, const ScheduleContext& context);

  double LearningRate(int64_t step) const override;

 private:
  CosineSchedule(const Cosine& config, const ScheduleContext& context);

  Cosine config_;
  double peak_;
  double total_steps_;
  double warmup_steps_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SCHEDULES_COSINE_COSINE_H_
