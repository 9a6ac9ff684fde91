// The model that a student is distilled from.
#ifndef GRATICULE_TRAINER_TEACHER_H_
#define GRATICULE_TRAINER_TEACHER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "tasks/task.h"
#include "trainer/experiment.pb.h"

namespace graticule {

// What is wrong with an experiment's teacher, as FieldErrors below "teacher": its spec and checkpoint must be there,
// and its model must take the student's images. OK where there is no teacher.
absl::Status CheckTeacher(const Experiment& student);

// The teacher with its weights, in evaluation mode, on the device. The experiment has one, and CheckTeacher liked it.
// FailedPrecondition if the checkpoint is of another model or of other classes.
absl::StatusOr<std::unique_ptr<Task>> BuildTeacher(const Experiment& student,
                                                   const std::vector<std::string>& class_names, c10::Device device);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_TEACHER_H_
