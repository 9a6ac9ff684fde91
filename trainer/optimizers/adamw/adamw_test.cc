#include "trainer/optimizers/adamw/adamw.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/allclose.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full_like.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::unique_ptr<Optimizer> NewOptimizer(const AdamW& config, const std::vector<TrainedParameter>& parameters) {
  auto optimizer = Registry<Optimizer>::Create(config, {parameters});
  EXPECT_TRUE(optimizer.ok()) << optimizer.status();
  return *std::move(optimizer);
}

at::Tensor Leaf(const at::Tensor& values) { return values.clone().set_requires_grad(true); }

AdamW FixtureConfig() {
  AdamW config;
  config.set_beta1(0.8);
  config.set_beta2(0.95);
  config.set_epsilon(1e-6);
  config.set_weight_decay(0.1);
  return config;
}

// The steps of tools/parity/adamw_fixture.py.
class AdamWTest : public testing::Test {
 protected:
  void SetUp() override {
    auto read = ReadSafetensors("trainer/optimizers/adamw/testdata/adamw.safetensors");
    ASSERT_TRUE(read.ok()) << read.status();
    fixture_ = *std::move(read);
    for (const char* name : {"weight", "bias", "late"}) {
      parameters_.push_back(
          {name, Leaf(fixture_.Find(absl::StrCat("start.", name))), 1, std::string(name) == "bias" ? 0.0 : 1.0});
    }
  }

  void RunSteps(Optimizer& optimizer, int begin, int end) {
    const at::Tensor learning_rates = fixture_.Find("learning_rates");
    for (int step = begin; step < end; ++step) {
      for (TrainedParameter& parameter : parameters_) {
        parameter.tensor.mutable_grad() = fixture_.Find(absl::StrCat("grad.", step, ".", parameter.name));
      }
      optimizer.Step(learning_rates[step].item<double>());
    }
  }

  Safetensors fixture_;
  std::vector<TrainedParameter> parameters_;
};

TEST_F(AdamWTest, StepsAsPyTorchDoes) {
  const auto optimizer = NewOptimizer(FixtureConfig(), parameters_);
  for (int step = 0; step < 6; ++step) {
    RunSteps(*optimizer, step, step + 1);
    for (const TrainedParameter& parameter : parameters_) {
      EXPECT_TRUE(
          at::allclose(parameter.tensor, fixture_.Find(absl::StrCat("after.", step, ".", parameter.name)), 1e-6, 1e-7))
          << parameter.name << " after step " << step;
    }
  }
  const Safetensors state = optimizer->State();
  EXPECT_EQ(state.tensors.size(), 9);
  for (const auto& [name, tensor] : state.tensors) {
    const at::Tensor expected = fixture_.Find(name);
    ASSERT_TRUE(expected.defined()) << name;
    EXPECT_EQ(tensor.sizes(), expected.sizes()) << name;
    EXPECT_TRUE(at::allclose(tensor, expected, 1e-6, 1e-7)) << name;
  }
}

TEST_F(AdamWTest, GoesOnFromItsStateBitForBit) {
  const auto whole = NewOptimizer(FixtureConfig(), parameters_);
  RunSteps(*whole, 0, 6);
  std::vector<at::Tensor> expected;
  for (TrainedParameter& parameter : parameters_) {
    expected.push_back(parameter.tensor.detach().clone());
    parameter.tensor = Leaf(fixture_.Find("start." + parameter.name));
  }

  const auto first = NewOptimizer(FixtureConfig(), parameters_);
  RunSteps(*first, 0, 4);
  const auto saved = ParseSafetensors(SerializeSafetensors(first->State()));
  ASSERT_TRUE(saved.ok()) << saved.status();
  const auto second = NewOptimizer(FixtureConfig(), parameters_);
  ASSERT_TRUE(second->LoadState(*saved).ok());
  RunSteps(*second, 4, 6);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(parameters_[i].tensor, expected[i])) << i;
}

// The formula of the README, with the default fields, in double.
TEST_F(AdamWTest, StepsByTheFormula) {
  const double learning_rate = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.05;
  for (const bool decay : {true, false}) {
    const at::Tensor values = at::linspace(-2, 3, 37).to(at::kFloat);
    const at::Tensor parameter = Leaf(values);
    const auto optimizer = NewOptimizer(AdamW(), {{"w", parameter, 1, decay ? 1.0 : 0.0}});
    std::vector<double> theta(37), m(37), v(37);
    for (int i = 0; i < 37; ++i) theta[i] = values[i].item<float>();
    for (int t = 1; t <= 20; ++t) {
      const at::Tensor gradient = at::arange(37).to(at::kFloat).mul(0.7).add(t).sin();
      parameter.mutable_grad() = gradient;
      optimizer->Step(learning_rate);
      for (int i = 0; i < 37; ++i) {
        const double g = gradient[i].item<float>();
        if (decay) theta[i] -= learning_rate * weight_decay * theta[i];
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        theta[i] -=
            learning_rate * m[i] / (1 - std::pow(beta1, t)) / (std::sqrt(v[i] / (1 - std::pow(beta2, t))) + epsilon);
      }
    }
    for (int i = 0; i < 37; ++i) EXPECT_NEAR(parameter[i].item<float>(), theta[i], 2e-6) << i << " decay " << decay;
  }
}

TEST_F(AdamWTest, ParameterWithoutGradientStaysAsItIs) {
  const at::Tensor parameter = Leaf(at::linspace(0, 1, 4));
  const auto optimizer = NewOptimizer(AdamW(), {{"w", parameter}});
  optimizer->Step(0.1);
  EXPECT_TRUE(at::equal(parameter, at::linspace(0, 1, 4)));
  EXPECT_EQ(optimizer->State().Find("step.w").item<float>(), 0);
}

// The gradient of a depth-wise kernel comes with another stride along its axis of length 1, and the same memory.
TEST_F(AdamWTest, StridesOfAnAxisOfLengthOneSayNothing) {
  const at::Tensor start = at::linspace(-1, 1, 18).view({2, 1, 3, 3});
  const at::Tensor gradient = at::arange(18).to(at::kFloat).sub(7).view({2, 1, 3, 3});
  std::vector<at::Tensor> results;
  for (const int64_t stride : {9, 1}) {
    const at::Tensor parameter = Leaf(start);
    parameter.mutable_grad() = gradient.as_strided({2, 1, 3, 3}, {9, stride, 3, 1});
    NewOptimizer(AdamW(), {{"w", parameter}})->Step(0.1);
    results.push_back(parameter);
  }
  EXPECT_TRUE(at::equal(results[0], results[1]));
  EXPECT_FALSE(at::equal(results[0], start));
}

// As other rates and decays of a config would.
TEST_F(AdamWTest, ScalesMultiplyTheRateAndTheDecay) {
  AdamW config;
  config.set_weight_decay(0.4);
  const at::Tensor scaled = Leaf(at::linspace(-1, 1, 7)), plain = scaled.detach().clone().set_requires_grad(true);
  const auto optimizer = NewOptimizer(config, {{"w", scaled, 0.25, 0.5}, {"other", Leaf(at::linspace(0, 1, 3))}});
  config.set_weight_decay(0.2);
  const auto reference = NewOptimizer(config, {{"w", plain}});
  for (int step = 0; step < 3; ++step) {
    scaled.mutable_grad() = at::arange(7).to(at::kFloat).sub(step);
    plain.mutable_grad() = scaled.grad();
    optimizer->Step(0.1);
    reference->Step(0.025);
  }
  EXPECT_TRUE(at::equal(scaled, plain));
}

TEST_F(AdamWTest, ParametersOfSeveralTypesMeetInOneOptimizer) {
  std::vector<TrainedParameter> parameters;
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kFloat}) {
    parameters.push_back({absl::StrCat("w", parameters.size()), Leaf(at::zeros({2, 2}).to(type))});
    parameters.back().tensor.mutable_grad() = at::full_like(parameters.back().tensor, 2).detach();
  }
  NewOptimizer(AdamW(), parameters)->Step(0.5);
  for (const TrainedParameter& parameter : parameters) {
    EXPECT_NEAR(parameter.tensor.sum().item<double>(), -2.0, 1e-6) << parameter.name;  // 4 elements by one step each
  }
}

TEST_F(AdamWTest, RefusesTheStateOfAnotherModel) {
  const auto optimizer = NewOptimizer(FixtureConfig(), parameters_);
  RunSteps(*optimizer, 0, 2);
  Safetensors state = optimizer->State();
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
  const at::Tensor before = state.Find("exp_avg.weight").clone();

  Safetensors wrong = state;
  for (auto& [name, tensor] : wrong.tensors) {
    if (name == "exp_avg.weight") tensor = at::zeros({5, 4});
    if (name == "step.bias") name = "step.other";
  }
  const absl::Status status = optimizer->LoadState(wrong);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("exp_avg.weight has shape [5,4] instead of [5,3]"), HasSubstr("step.bias is missing"),
                    HasSubstr("step.other has no counterpart")));
  EXPECT_TRUE(at::equal(optimizer->State().Find("exp_avg.weight"), before));

  EXPECT_THAT(std::string(optimizer->LoadState({}).message()), HasSubstr("and 6 more"));
  EXPECT_TRUE(optimizer->LoadState(state).ok());
}

TEST_F(AdamWTest, AllMistakesOfAConfigComeTogether) {
  AdamW config;
  config.set_beta1(1);
  config.set_beta2(-0.1);
  config.set_epsilon(0);
  config.set_weight_decay(-1);
  const auto optimizer = Registry<Optimizer>::Create(config, {});
  EXPECT_THAT(ErrorPaths(optimizer.status()), testing::ElementsAre("beta1", "beta2", "epsilon", "weight_decay"));
}

}  // namespace
}  // namespace graticule
