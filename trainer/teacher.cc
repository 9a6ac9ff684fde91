#include "trainer/teacher.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ATen/ops/addcmul.h"
#include "ATen/ops/tensor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "c10/core/GradMode.h"
#include "nn/module.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
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
  Data data;
  *data.mutable_image_size() = student.data().image_size();
  data.mutable_mean()->Swap(experiment.mutable_data()->mutable_mean());
  data.mutable_std()->Swap(experiment.mutable_data()->mutable_std());
  *experiment.mutable_data() = std::move(data);
  return experiment;
}

// TeacherModel's `order`.
absl::StatusOr<at::Tensor> OrderOfClasses(const std::vector<std::string>& teacher,
                                          const std::vector<std::string>& student) {
  if (teacher == student) return at::Tensor();
  if (teacher.size() != student.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("names ", teacher.size(), " classes, and this experiment has ", student.size()));
  }
  std::map<std::string, int64_t> places;
  for (size_t i = 0; i < teacher.size(); ++i) places.emplace(teacher[i], i);
  std::vector<int64_t> order;
  for (size_t i = 0; i < student.size(); ++i) {
    const auto place = places.find(student[i]);
    if (place == places.end()) {
      return absl::FailedPreconditionError(absl::StrCat("has other classes than this experiment: class ", i, " is '",
                                                        student[i], "' here, which is none there; there it is '",
                                                        teacher[i], "'"));
    }
    order.push_back(place->second);
    places.erase(place);  // each is of one class only
  }
  return at::tensor(order, at::kLong);
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
    for (const FieldError& error : FieldErrors::FromStatus(CheckModel(*experiment))) {
      errors.Add("teacher.spec", absl::StrCat(error.path, error.path.empty() ? "" : ": ", error.message));
    }
  } else {
    errors.Add("teacher.spec", std::string(experiment.status().message()));
  }
  return errors.ToStatus();
}

TeacherModel::TeacherModel(std::unique_ptr<Task> task, const ChannelStatistics& own, const ChannelStatistics& student,
                           at::Tensor order, c10::Device device)
    : task_(std::move(task)), order_(std::move(order)) {
  if (order_.defined()) order_ = order_.to(device);
  if (own.mean == student.mean && own.std == student.std) return;
  std::vector<float> scale(3), shift(3);
  for (int c = 0; c < 3; ++c) {
    scale[c] = student.std[c] / own.std[c];
    shift[c] = (student.mean[c] - own.mean[c]) / own.std[c];
  }
  scale_ = at::tensor(scale).view({1, 3, 1, 1}).to(device);
  shift_ = at::tensor(shift).view({1, 3, 1, 1}).to(device);
}

at::Tensor TeacherModel::Logits(const at::Tensor& images) const {
  const c10::NoGradGuard no_grad;
  const at::Tensor own_images = scale_.defined() ? at::addcmul(shift_, images, scale_) : images;
  const at::Tensor logits = task_->Predict(own_images, {}).at("logits").to(at::kFloat);
  return order_.defined() ? logits.index_select(1, order_) : logits;
}

absl::StatusOr<std::unique_ptr<TeacherModel>> BuildTeacher(const Experiment& student,
                                                           const std::vector<std::string>& class_names,
                                                           c10::Device device) {
  ASSIGN_OR_RETURN(const Experiment experiment, TeacherExperiment(student), "teacher.spec");
  ASSIGN_OR_RETURN(std::unique_ptr<Task> teacher, BuildTask(experiment, class_names), "teacher.spec");
  const std::string checkpoint = CheckpointOf(student.teacher());
  ASSIGN_OR_RETURN(const Safetensors weights, ReadWeights(checkpoint, student.teacher().ema()), "the teacher");
  ASSIGN_OR_RETURN(const LoadReport report, LoadWeights(weights, *teacher), absl::StrCat("the teacher: ", checkpoint));
  if (!report.reinitialised.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the teacher: ", checkpoint, " has other classes than this experiment's ", class_names.size(), ", or none"));
  }
  at::Tensor order;
  if (const auto names = weights.metadata.find(kClassNamesKey);
      names != weights.metadata.end() && !class_names.empty()) {
    ASSIGN_OR_RETURN(order, OrderOfClasses(absl::StrSplit(names->second, '\n'), class_names),
                     absl::StrCat("the teacher: ", checkpoint));
  }
  for (const NamedParameter& parameter : teacher->Parameters()) parameter.tensor.set_requires_grad(false);
  teacher->To(device);
  teacher->SetTraining(false);
  return std::make_unique<TeacherModel>(std::move(teacher), StatisticsOf(experiment.data()),
                                        StatisticsOf(student.data()), order, device);
}

}  // namespace graticule
