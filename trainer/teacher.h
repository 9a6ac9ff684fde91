// The model that a student is distilled from.
#ifndef GRATICULE_TRAINER_TEACHER_H_
#define GRATICULE_TRAINER_TEACHER_H_

#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "data/statistics.h"
#include "tasks/task.h"
#include "trainer/experiment.pb.h"

namespace graticule {

// What is wrong with an experiment's teacher, as FieldErrors below "teacher": its spec and checkpoint must be there,
// and its model must take the student's images. OK where there is no teacher.
absl::Status CheckTeacher(const Experiment& student);

// A trained model that speaks of the student's images and classes, whatever it knows them by.
class TeacherModel {
 public:
  // `task` has its weights, is in evaluation mode and on `device`. Its images are normalised by `own`, the student's by
  // `student`. `order`: where each class of the student's stands among the task's, [K] int64; undefined where they are
  // in the same order.
  TeacherModel(std::unique_ptr<Task> task, const ChannelStatistics& own, const ChannelStatistics& student,
               at::Tensor order, c10::Device device);

  // [B,K] float, in the order of the student's classes, without gradients: of the student's images [B,3,H,W] float as
  // its Normalizer made them.
  at::Tensor Logits(const at::Tensor& images) const;

 private:
  std::unique_ptr<Task> task_;
  at::Tensor scale_, shift_;  // [1,3,1,1], from the student's normalisation to the own one; undefined where they agree
  at::Tensor order_;
};

// The teacher with its weights, on the device. The experiment has one, and CheckTeacher liked it. FailedPrecondition if
// the checkpoint is of another model or of other classes. Which classes it is of, and in which order, a checkpoint says
// that was trained here; of another one they are taken to be those of `class_names`, as they are where that is empty.
absl::StatusOr<std::unique_ptr<TeacherModel>> BuildTeacher(const Experiment& student,
                                                           const std::vector<std::string>& class_names,
                                                           c10::Device device);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_TEACHER_H_
