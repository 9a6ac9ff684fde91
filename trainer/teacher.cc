#include "trainer/teacher.h"

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nn/module.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/parts.h"
#include "trainer/spec.h"

namespace graticule {
namespace {

std::string CheckpointOf(const Teacher& teacher) {
  return teacher.checkpoint().empty() ? teacher.spec() : teacher.checkpoint();
}

// The teacher's experiment as it serves the student: its model alone, for the student's images.
absl::StatusOr<Experiment> TeacherExperiment(const Experiment& student) {
  const std::string& path = student.teacher().spec();
  std::error_code error;
  const bool is_run = std::filesystem::is_directory(path, error);
  ASSIGN_OR_RETURN(Spec spec, Spec::Load(is_run ? path + "/experiment.textproto" : path));
  Experiment& experiment = spec.experiment();
  experiment.clear_objectives();
  *experiment.mutable_data()->mutable_image_size() = student.data().image_size();
  return experiment;
}

}  // namespace

absl::Status CheckTeacher(const Experiment& student) {
  if (!student.has_teacher()) return absl::OkStatus();
  FieldErrors errors;
  if (student.teacher().spec().empty()) {
    errors.Add("teacher.spec", "must be given: an experiment or a run directory");
    return errors.ToStatus();
  }
  std::error_code ignored;
  if (const std::string checkpoint = CheckpointOf(student.teacher()); !std::filesystem::exists(checkpoint, ignored)) {
    errors.Add("teacher.checkpoint", absl::StrCat(checkpoint, ": no such file or folder"));
  }
  const absl::StatusOr<Experiment> experiment = TeacherExperiment(student);
  if (experiment.ok()) {
    const MetaScope meta;
    for (const FieldError& error : FieldErrors::FromStatus(BuildTask(*experiment, {}).status())) {
      errors.Add("teacher.spec", absl::StrCat(error.path, error.path.empty() ? "" : ": ", error.message));
    }
  } else {
    errors.Add("teacher.spec", std::string(experiment.status().message()));
  }
  return errors.ToStatus();
}

absl::StatusOr<std::unique_ptr<Task>> BuildTeacher(const Experiment& student,
                                                   const std::vector<std::string>& class_names, c10::Device device) {
  ASSIGN_OR_RETURN(const Experiment experiment, TeacherExperiment(student), "teacher.spec");
  ASSIGN_OR_RETURN(std::unique_ptr<Task> teacher, BuildTask(experiment, class_names), "teacher.spec");
  const std::string checkpoint = CheckpointOf(student.teacher());
  ASSIGN_OR_RETURN(const Safetensors weights, ReadWeights(checkpoint, student.teacher().ema()), "the teacher");
  ASSIGN_OR_RETURN(const LoadReport report, LoadWeights(weights, *teacher), absl::StrCat("the teacher: ", checkpoint));
  if (!report.reinitialised.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the teacher: ", checkpoint, " has other classes than this experiment's ", class_names.size(), ", or none"));
  }
  for (const NamedParameter& parameter : teacher->Parameters()) parameter.tensor.set_requires_grad(false);
  teacher->To(device);
  teacher->SetTraining(false);
  return teacher;
}

}  // namespace graticule
