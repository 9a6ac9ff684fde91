#include "trainer/teacher.h"

#include <memory>
#include <string>
#include <vector>

#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/randint.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "plugin/file.h"
#include "plugin/testing.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kModel[] = R"pb(
  task {
    [type.googleapis.com/graticule.Classification] {}
  }
  backbone {
    [type.googleapis.com/graticule.Vit] { patch_size: 4 embed_dim: 8 depth: 1 num_heads: 2 }
  }
  pooling {
    [type.googleapis.com/graticule.ClassToken] {}
  }
)pb";
constexpr char kHalves[] = "data { image_size: 16 mean: [0.5, 0.5, 0.5] std: [0.5, 0.5, 0.5] }";

// A teacher of three classes in a file, and a student of 8×8 images.
class TeacherTest : public testing::Test {
 protected:
  TeacherTest() { student_.mutable_data()->add_image_size(8); }

  // Writes a teacher with these fields of its data; `classes`: what its checkpoint says, where it says any.
  void MakeTeacher(const std::string& data, const std::vector<std::string>& classes = {}) {
    const std::string spec = absl::StrCat(kModel, data);
    Experiment experiment;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(spec, &experiment));
    ASSERT_TRUE(WriteFile(folder_ + "teacher.textproto", spec).ok());
    *experiment.mutable_data()->mutable_image_size() = student_.data().image_size();
    own_data_ = experiment.data();
    auto task = BuildTask(experiment, {"a", "b", "c"});
    ASSERT_TRUE(task.ok()) << task.status();
    task_ = *std::move(task);
    {
      const c10::NoGradGuard no_grad;
      for (const NamedParameter& parameter : task_->Parameters()) parameter.tensor.normal_(0, 0.5);
    }
    task_->SetTraining(false);
    Safetensors weights = ModelTensors(*task_);
    if (!classes.empty()) weights.metadata[kClassNamesKey] = absl::StrJoin(classes, "\n");
    ASSERT_TRUE(WriteSafetensors(folder_ + "teacher.safetensors", weights).ok());
    student_.mutable_teacher()->set_spec(folder_ + "teacher.textproto");
    student_.mutable_teacher()->set_checkpoint(folder_ + "teacher.safetensors");
  }

  // What the teacher says of bytes that its own normaliser has had.
  at::Tensor Expected() {
    const c10::NoGradGuard no_grad;
    return task_->Predict(Normalizer(own_data_, c10::kCPU)(images_), {}).at("logits");
  }
  absl::StatusOr<at::Tensor> Logits(const std::vector<std::string>& classes) {
    const auto teacher = BuildTeacher(student_, classes, c10::kCPU);
    if (!teacher.ok()) return teacher.status();
    return (*teacher)->Logits(Normalizer(student_.data(), c10::kCPU)(images_));
  }

  const std::string folder_ = testing::TempDir() + "/";
  const at::Tensor images_ = at::randint(0, 256, {5, 3, 8, 8}, at::kByte).contiguous(at::MemoryFormat::ChannelsLast);
  Experiment student_;
  Data own_data_;
  std::unique_ptr<Task> task_;
};

TEST_F(TeacherTest, SeesImagesAsItsOwnTrainingHadThem) {
  MakeTeacher(kHalves);
  const auto logits = Logits({"a", "b", "c"});
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_FALSE(logits->requires_grad());
  EXPECT_TRUE(at::allclose(*logits, Expected(), 1e-4, 1e-5)) << *logits << Expected();
  // Which is something else than the student's normalisation.
  const c10::NoGradGuard no_grad;
  const at::Tensor unlike = task_->Predict(Normalizer(student_.data(), c10::kCPU)(images_), {}).at("logits");
  EXPECT_FALSE(at::allclose(*logits, unlike, 1e-2, 1e-2));
}

TEST_F(TeacherTest, TheSameNormalisationIsLeftAsItIs) {
  MakeTeacher("data { image_size: 16 }");
  const auto logits = Logits({"a", "b", "c"});
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_TRUE(at::equal(*logits, Expected()));
}

TEST_F(TeacherTest, ClassesAreFoundByName) {
  MakeTeacher("", {"a", "b", "c"});
  const at::Tensor expected = Expected();
  const auto same = Logits({"a", "b", "c"});
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_TRUE(at::equal(*same, expected));

  const auto permuted = Logits({"c", "a", "b"});
  ASSERT_TRUE(permuted.ok()) << permuted.status();
  for (const auto& [here, there] : {std::pair(0, 2), {1, 0}, {2, 1}}) {
    EXPECT_TRUE(at::equal(permuted->select(1, here), expected.select(1, there))) << here;
  }
}

TEST_F(TeacherTest, OtherClassesAreRefused) {
  MakeTeacher("", {"a", "b", "c"});
  const absl::Status other = Logits({"a", "dog", "c"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(other)) << other;
  EXPECT_THAT(other.message(), AllOf(HasSubstr("the teacher: "), HasSubstr("teacher.safetensors"),
                                     HasSubstr("class 1 is 'dog' here, which is none there; there it is 'b'")));
  EXPECT_TRUE(absl::IsFailedPrecondition(Logits({"a", "a", "c"}).status()));
  EXPECT_THAT(Logits({"a", "b"}).status().message(), HasSubstr("other classes than this experiment's 2"));
  // A file of more names than classes.
  MakeTeacher("", {"a", "b", "c", "d"});
  EXPECT_THAT(Logits({"c", "b", "a"}).status().message(), HasSubstr("names 4 classes, and this experiment has 3"));
}

// As timm's, or a student whose data set is not at hand.
TEST_F(TeacherTest, WithoutNamesTheOrderIsTheSame) {
  MakeTeacher("");
  const auto logits = Logits({"x", "y", "z"});
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_TRUE(at::equal(*logits, Expected()));
}

TEST_F(TeacherTest, MistakesOfItsSpecAreFound) {
  MakeTeacher("");
  EXPECT_TRUE(CheckTeacher(student_).ok()) << CheckTeacher(student_);
  ASSERT_TRUE(WriteFile(folder_ + "teacher.textproto", absl::StrCat(kModel, "data { std: [0.5, 0, 0.5] }")).ok());
  EXPECT_THAT(ErrorPaths(CheckTeacher(student_)), ElementsAre("teacher.spec"));
  EXPECT_THAT(Errors(CheckTeacher(student_)).at("teacher.spec"), HasSubstr("data.std[1]: must be positive, found 0"));
}

}  // namespace
}  // namespace graticule
