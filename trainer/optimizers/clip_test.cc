#include "trainer/optimizers/clip.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/zeros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

// The fixture is PyTorch's and timm's (tools/parity/make_optimizer_fixtures.py).
class ClipTest : public testing::Test {
 protected:
  void SetUp() override {
    auto read = ReadSafetensors("trainer/optimizers/testdata/clip.safetensors");
    ASSERT_TRUE(read.ok()) << read.status();
    fixture_ = *std::move(read);
    for (const char* name : {"kernel", "weight", "bias", "position", "scale", "head.weight", "head.bias"}) {
      TrainedParameter& parameter = parameters_.emplace_back();
      parameter.name = name;
      parameter.tensor = fixture_.Find(std::string("start.") + name).clone().set_requires_grad(true);
      parameter.tensor.mutable_grad() = fixture_.Find(std::string("grad.") + name).clone();
      if (parameter.name.starts_with("head.")) parameter.role = TrainedParameter::Role::kClassifier;
    }
    parameters_.push_back({"unused", at::ones({3}).set_requires_grad(true)});
  }

  void ExpectGradients(const std::string& by_case) {
    for (const TrainedParameter& parameter : parameters_) {
      if (parameter.name == "unused") {
        EXPECT_FALSE(parameter.tensor.grad().defined());
        continue;
      }
      EXPECT_TRUE(at::allclose(parameter.tensor.grad(), fixture_.Find(by_case + "." + parameter.name), 1e-6, 1e-8))
          << parameter.name;
    }
  }
  void ExpectNorm(const at::Tensor& norm) {
    EXPECT_EQ(norm.dim(), 0);
    EXPECT_TRUE(at::allclose(norm, fixture_.Find("norm"), 1e-6, 0));
  }

  Safetensors fixture_;
  std::vector<TrainedParameter> parameters_;
};

TEST_F(ClipTest, WithoutAFieldOnlyTheNormIsTaken) {
  ExpectNorm(ClipGradients(Trainer(), parameters_));
  ExpectGradients("grad");
}

TEST_F(ClipTest, ByNorm) {
  Trainer trainer;
  trainer.set_clip_norm(100);
  ExpectNorm(ClipGradients(trainer, parameters_));
  ExpectGradients("high_norm");
  trainer.set_clip_norm(0.5);
  ExpectNorm(ClipGradients(trainer, parameters_));
  ExpectGradients("norm");
}

TEST_F(ClipTest, ByValue) {
  Trainer trainer;
  trainer.set_clip_value(0.3);
  ExpectNorm(ClipGradients(trainer, parameters_));
  ExpectGradients("value");
}

TEST_F(ClipTest, Adaptively) {
  Trainer trainer;
  trainer.set_clip_adaptive(0.05);
  ExpectNorm(ClipGradients(trainer, parameters_));
  ExpectGradients("adaptive");
}

TEST_F(ClipTest, TheNormShowsWhatIsNoNumber) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    parameters_.front().tensor.mutable_grad()[1][0][2][2] = bad;
    EXPECT_FALSE(std::isfinite(ClipGradients(Trainer(), parameters_).item<float>()));
  }
}

TEST_F(ClipTest, WithoutGradientsThereIsNoNorm) {
  Trainer trainer;
  trainer.set_clip_norm(1);
  EXPECT_FALSE(ClipGradients(trainer, {}).defined());
  EXPECT_FALSE(ClipGradients(trainer, {parameters_.back()}).defined());
}

TEST_F(ClipTest, TheNormSpansTypes) {
  EXPECT_NEAR(GlobalNorm({at::full({2}, 1.0, at::kDouble), at::full({2, 1}, 1.0, at::kFloat)}).item<float>(), 2, 1e-6);
}

TEST(CheckClippingTest, OneWayAtMost) {
  const auto errors_of = [](double norm, double value, double adaptive) {
    Trainer trainer;
    trainer.set_clip_norm(norm);
    trainer.set_clip_value(value);
    trainer.set_clip_adaptive(adaptive);
    FieldErrors errors;
    CheckClipping(trainer, errors);
    return ErrorPaths(errors.ToStatus());
  };
  EXPECT_THAT(errors_of(0, 0, 0), ElementsAre());
  EXPECT_THAT(errors_of(0, 0, 0.1), ElementsAre());
  EXPECT_THAT(errors_of(1, 0, 0.1), ElementsAre("trainer.clip_adaptive"));
  EXPECT_THAT(errors_of(1, 1, 1), ElementsAre("trainer.clip_value", "trainer.clip_adaptive"));
  EXPECT_THAT(errors_of(-1, std::nan(""), INFINITY),
              ElementsAre("trainer.clip_norm", "trainer.clip_value", "trainer.clip_adaptive"));
}

}  // namespace
}  // namespace graticule
