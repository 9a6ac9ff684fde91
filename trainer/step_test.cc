#include "trainer/step.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/randint.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

// Linear regression of the label on the 12 pixels of a 2×2 image. It keeps what it was given, and what it drew.
class RegressionTask : public Task {
 public:
  TaskOutput Train(const Batch& batch, double progress) override {
    images = batch.images;
    last_progress = progress;
    draws = at::rand({8});
    const at::Tensor prediction = at::linear(batch.images.flatten(1), weight_, bias_);  // [B,1]
    computed_in = prediction.scalar_type();
    TaskOutput output;
    output.loss = prediction.squeeze(1).to(at::kFloat).sub(batch.labels).square().mean();
    return output;
  }
  void Evaluate(const Batch&, Metrics&) override {}
  std::vector<std::string> EvaluationMetrics() const override { return {"top1"}; }
  std::map<std::string, at::Tensor> Predict(const at::Tensor&, const PredictOptions&) override { return {}; }
  std::vector<NamedParameter> ModelParameters() const override { return Parameters(); }
  std::vector<NamedBuffer> ModelBuffers() const override { return Buffers(); }
  std::map<std::string, std::vector<NamedParameter>> ObjectiveParameters() const override { return {}; }
  std::vector<std::string> ClassifierNames() const override { return {}; }

  at::Tensor images, draws;
  double last_progress = -1;
  at::ScalarType computed_in = at::kFloat;

 private:
  at::Tensor weight_ = RegisterParameter("weight", init::Constant(NewParameter({1, 12}), 0.5));
  at::Tensor bias_ = RegisterParameter("bias", init::Zeros(NewParameter({1})));
  at::Tensor fixed_ = RegisterParameter("fixed", init::Ones(NewParameter({2})), {.trainable = false});
  at::Tensor unused_ = RegisterParameter("unused", init::Ones(NewParameter({2})));
};

// Plain gradient descent that keeps the gradients it was given.
class GradientDescent : public Optimizer {
 public:
  explicit GradientDescent(const Task& task) : parameters_(task.Parameters()) {}
  void Step(double learning_rate) override {
    c10::NoGradGuard no_grad;
    gradients.clear();
    for (const NamedParameter& parameter : parameters_) {
      const at::Tensor gradient = parameter.tensor.grad();
      if (!gradient.defined()) continue;
      gradients[parameter.name] = gradient.clone();
      parameter.tensor.detach().sub_(gradient, learning_rate);
    }
  }
  Safetensors State() const override { return {}; }
  absl::Status LoadState(Safetensors) override { return absl::OkStatus(); }

  std::map<std::string, at::Tensor> gradients;

 private:
  std::vector<NamedParameter> parameters_;
};

// Pixels become x / 255.
Data UnitData() {
  Data data;
  for (int c = 0; c < 3; ++c) {
    data.add_mean(0);
    data.add_std(1);
  }
  return data;
}

class StepTest : public testing::Test {
 protected:
  TrainingStep MakeStep(Ema* ema = nullptr, LossScaler* loss_scaler = nullptr, const ProcessPlace& place = {}) {
    std::vector<TrainedParameter> parameters;
    for (const NamedParameter& parameter : task_.Parameters()) parameters.push_back({parameter.name, parameter.tensor});
    return {trainer_, StepParts{.normalize = normalize_,
                                .device = c10::kCPU,
                                .task = task_,
                                .parameters = parameters,
                                .optimizer = optimizer_,
                                .ema = ema,
                                .loss_scaler = loss_scaler,
                                .place = place}};
  }

  static Batch RandomBatch(int64_t size) {
    return {.images = at::randint(256, {size, 3, 2, 2}, at::kByte), .labels = at::randint(10, {size}, at::kLong)};
  }
  static Batch Part(const Batch& batch, int64_t start, int64_t size) {
    return {.images = batch.images.narrow(0, start, size), .labels = batch.labels.narrow(0, start, size)};
  }
  // Of the mean of (w·x + b - label)², written out: the gradients of the 12 weights and of the bias.
  std::vector<double> Gradients(const Batch& batch) const {
    std::vector<double> gradients(13, 0.0);
    const auto parameters = task_.Parameters();
    for (int64_t i = 0; i < batch.size(); ++i) {
      const at::Tensor pixels = batch.images[i].flatten();
      double difference = parameters[1].tensor.item<double>() - batch.labels[i].item<double>();
      for (int p = 0; p < 12; ++p) {
        difference += parameters[0].tensor[0][p].item<double>() * pixels[p].item<double>() / 255;
      }
      for (int p = 0; p < 12; ++p) {
        gradients[p] += 2 * difference * pixels[p].item<double>() / 255 / static_cast<double>(batch.size());
      }
      gradients[12] += 2 * difference / static_cast<double>(batch.size());
    }
    return gradients;
  }
  static double Norm(const std::vector<double>& values) {
    double squares = 0;
    for (const double value : values) squares += value * value;
    return std::sqrt(squares);
  }
  void ExpectOptimizerGot(const std::vector<double>& gradients, double scale = 1) {
    ASSERT_EQ(optimizer_.gradients.size(), 2);
    for (int p = 0; p < 12; ++p) {
      EXPECT_NEAR(optimizer_.gradients["weight"][0][p].item<double>(), scale * gradients[p], 1e-4) << p;
    }
    EXPECT_NEAR(optimizer_.gradients["bias"].item<double>(), scale * gradients[12], 1e-4);
  }

  Trainer trainer_;
  const Normalizer normalize_{UnitData(), c10::kCPU};
  RegressionTask task_;
  GradientDescent optimizer_{task_};
};

TEST_F(StepTest, WithoutClippingTheOptimizerGetsTheGradients) {
  const Batch batch = RandomBatch(5);
  const std::vector<double> gradients = Gradients(batch);
  TrainingStep step = MakeStep();
  const TaskOutput output = step.Forward(batch, 0, 0, 0.25);
  EXPECT_EQ(task_.last_progress, 0.25);
  EXPECT_TRUE(at::allclose(task_.images, batch.images.to(at::kFloat).div(255)));
  EXPECT_TRUE(step.Backward(output.loss, 0).ok());
  at::Tensor norms;
  EXPECT_NEAR(step.Update(0.1, 0, &norms).gradient_norm, Norm(gradients), 1e-4 * Norm(gradients));
  ExpectOptimizerGot(gradients);
  ASSERT_EQ(norms.sizes(), (std::vector<int64_t>{2}));
  EXPECT_NEAR(norms[1].item<double>(), std::abs(gradients[12]), 1e-4);
  EXPECT_NEAR(task_.Parameters()[1].tensor.item<double>(), -0.1 * gradients[12], 1e-5);
}

TEST_F(StepTest, GradientsAboveTheNormAreScaledDownToIt) {
  const Batch batch = RandomBatch(5);
  const std::vector<double> gradients = Gradients(batch);
  const double norm = Norm(gradients);
  trainer_.set_clip_norm(norm / 3);
  TrainingStep step = MakeStep();
  EXPECT_TRUE(step.Backward(step.Forward(batch, 0, 0, 0).loss, 0).ok());
  EXPECT_NEAR(step.Update(0, 0).gradient_norm, norm, 1e-4 * norm);
  ExpectOptimizerGot(gradients, 1.0 / 3);
}

TEST_F(StepTest, GradientsBelowTheNormAreLeftAsTheyAre) {
  const Batch batch = RandomBatch(5);
  const std::vector<double> gradients = Gradients(batch);
  const double norm = Norm(gradients);
  TrainingStep unclipped = MakeStep();
  EXPECT_TRUE(unclipped.Backward(unclipped.Forward(batch, 0, 0, 0).loss, 0).ok());
  unclipped.Update(0, 0);
  const auto expected = optimizer_.gradients;

  trainer_.set_clip_norm(1.01 * norm);
  TrainingStep step = MakeStep();
  EXPECT_TRUE(step.Backward(step.Forward(batch, 0, 0, 0).loss, 0).ok());
  EXPECT_NEAR(step.Update(0, 0).gradient_norm, norm, 1e-4 * norm);
  ASSERT_EQ(optimizer_.gradients.size(), expected.size());
  for (const auto& [name, gradient] : expected) EXPECT_TRUE(at::equal(optimizer_.gradients[name], gradient)) << name;
}

TEST_F(StepTest, PartsAddUpToTheGradientsOfTheBatch) {
  const Batch batch = RandomBatch(12);
  const std::vector<double> gradients = Gradients(batch);
  trainer_.set_accumulation_steps(4);
  TrainingStep step = MakeStep();
  for (int part = 0; part < 4; ++part) {
    EXPECT_TRUE(step.Backward(step.Forward(Part(batch, 3 * part, 3), 0, part, 0).loss, part).ok());
  }
  step.Update(0, 0);
  ExpectOptimizerGot(gradients);
}

TEST_F(StepTest, ClippingIsOfTheWholeBatchNotOfItsParts) {
  const Batch batch = RandomBatch(8);
  const std::vector<double> gradients = Gradients(batch);
  trainer_.set_accumulation_steps(2);
  trainer_.set_clip_norm(Norm(gradients) / 2);
  TrainingStep step = MakeStep();
  for (int part = 0; part < 2; ++part) {
    EXPECT_TRUE(step.Backward(step.Forward(Part(batch, 4 * part, 4), 0, part, 0).loss, part).ok());
  }
  step.Update(0, 0);
  ExpectOptimizerGot(gradients, 0.5);
}

TEST_F(StepTest, GradientsAreForgottenAfterTheStep) {
  TrainingStep step = MakeStep();
  for (int i = 0; i < 2; ++i) {
    const Batch batch = RandomBatch(4);
    const std::vector<double> gradients = Gradients(batch);
    EXPECT_TRUE(step.Backward(step.Forward(batch, i, 0, 0).loss, 0).ok());
    step.Update(0.01, i);
    ExpectOptimizerGot(gradients);
    for (const NamedParameter& parameter : task_.Parameters()) {
      EXPECT_FALSE(parameter.tensor.grad().defined()) << parameter.name;
    }
  }
}

TEST_F(StepTest, DrawsDependOnSeedStepAndPartAlone) {
  trainer_.set_seed(5);
  const Batch batch = RandomBatch(4), other = RandomBatch(2);
  const auto draws = [&](const Batch& images, int64_t step, int part, double progress) {
    MakeStep().Forward(images, step, part, progress);
    return task_.draws;
  };
  const at::Tensor first = draws(batch, 3, 1, 0.1);
  EXPECT_FALSE(at::equal(draws(batch, 4, 1, 0.1), first));
  EXPECT_FALSE(at::equal(draws(batch, 3, 0, 0.1), first));
  EXPECT_FALSE(at::equal(draws(batch, 1, 3, 0.1), first));
  EXPECT_TRUE(at::equal(draws(other, 3, 1, 0.9), first));
  trainer_.set_seed(6);
  EXPECT_FALSE(at::equal(draws(batch, 3, 1, 0.1), first));
}

// Two processes draw as two parts of one process do.
TEST_F(StepTest, ProcessesDrawAsPartsDo) {
  const Batch batch = RandomBatch(4);
  const auto draws = [&](int part, const ProcessPlace& place) {
    MakeStep(nullptr, nullptr, place).Forward(batch, 3, part, 0);
    return task_.draws;
  };
  EXPECT_TRUE(at::equal(draws(0, {.rank = 1, .world_size = 2}), draws(1, {})));
  EXPECT_TRUE(at::equal(draws(1, {.rank = 1, .world_size = 2}), draws(3, {})));
  EXPECT_TRUE(at::equal(draws(0, {.rank = 0, .world_size = 2}), draws(0, {})));
}

// An infinite loss may have finite gradients of its own; the step counts as lost all the same.
TEST_F(StepTest, AStepThatIsNotFiniteChangesNothing) {
  Ema ema(0.75, /*warmup=*/false, task_.Parameters(), {});
  TrainingStep step = MakeStep(&ema);
  const std::vector<at::Tensor> before = {task_.Parameters()[0].tensor.detach().clone(),
                                          ema.State().Find("weight").clone()};
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const TaskOutput output = step.Forward(RandomBatch(4), 0, 0, 0);
    EXPECT_TRUE(step.Backward(output.loss.add(bad), 0).ok());
    EXPECT_FALSE(step.Update(0.1, 0).finite());
    EXPECT_TRUE(optimizer_.gradients.empty());
    EXPECT_TRUE(at::equal(task_.Parameters()[0].tensor, before[0]));
    EXPECT_TRUE(at::equal(ema.State().Find("weight"), before[1]));
    EXPECT_FALSE(task_.Parameters()[0].tensor.grad().defined());
  }
  EXPECT_TRUE(step.Backward(step.Forward(RandomBatch(4), 0, 0, 0).loss, 0).ok());
  EXPECT_TRUE(step.Update(0.1, 0).finite());
}

TEST_F(StepTest, TheLossScaleIsTakenOutOfTheGradientsAndShrinksAfterALostStep) {
  const Batch batch = RandomBatch(5);
  const std::vector<double> gradients = Gradients(batch);
  LossScaler loss_scaler({.initial_scale = 1024});
  TrainingStep step = MakeStep(nullptr, &loss_scaler);
  EXPECT_TRUE(step.Backward(step.Forward(batch, 0, 0, 0).loss, 0).ok());
  EXPECT_NEAR(step.Update(0, 0).gradient_norm, Norm(gradients), 1e-4 * Norm(gradients));
  ExpectOptimizerGot(gradients);
  EXPECT_EQ(loss_scaler.GetState().scale, 1024);
  EXPECT_TRUE(step.Backward(step.Forward(batch, 1, 0, 0).loss.mul(1e38), 0).ok());
  EXPECT_FALSE(step.Update(0, 1).finite());
  EXPECT_EQ(loss_scaler.GetState().scale, 512);
}

TEST_F(StepTest, TheMovingAverageFollowsTheStep) {
  Ema ema(0.75, /*warmup=*/false, task_.Parameters(), {});
  TrainingStep step = MakeStep(&ema);
  const at::Tensor before = task_.Parameters()[0].tensor.detach().clone();
  EXPECT_TRUE(step.Backward(step.Forward(RandomBatch(4), 0, 0, 0).loss, 0).ok());
  step.Update(0.1, 0);
  const at::Tensor after = task_.Parameters()[0].tensor.detach();
  EXPECT_FALSE(at::equal(after, before));
  EXPECT_TRUE(at::allclose(ema.State().Find("weight"), before.mul(0.75).add(after, 0.25)));
}

TEST_F(StepTest, Bf16IsOfTheForwardPassOnly) {
  trainer_.set_precision(Trainer::BF16);
  const Batch batch = RandomBatch(4);
  const std::vector<double> gradients = Gradients(batch);
  TrainingStep step = MakeStep();
  const TaskOutput output = step.Forward(batch, 0, 0, 0);
  EXPECT_EQ(task_.computed_in, at::kBFloat16);
  EXPECT_EQ(at::linear(at::rand({2, 3}), at::rand({4, 3})).scalar_type(), at::kFloat);
  EXPECT_TRUE(step.Backward(output.loss, 0).ok());
  step.Update(0.1, 0);
  for (const auto& [name, gradient] : optimizer_.gradients) EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name;
  for (const NamedParameter& parameter : task_.Parameters()) EXPECT_EQ(parameter.tensor.scalar_type(), at::kFloat);
  // bfloat16 has eight bits: two or three of them go in the sums.
  EXPECT_NEAR(optimizer_.gradients["bias"].item<double>(), gradients[12], 0.05 * std::abs(gradients[12]) + 0.05);
}

}  // namespace
}  // namespace graticule
