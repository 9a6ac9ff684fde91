#include "tasks/classification/classification.h"

#include <cmath>
#include <memory>
#include <string>

#include "ATen/ops/allclose.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/softmax.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/zeros.h"
#include "gmock/gmock.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/empty.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "google/protobuf/wrappers.pb.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The image's pixels are the tokens: [B,3,2,2] to [B,4,3], so that every result can be worked out by hand. Its config
// says whether it is broken.
class PixelBackbone : public Backbone {
 public:
  TokenMap Forward(const at::Tensor& images) override {
    return {.tokens = images.flatten(2).transpose(1, 2).mul(weight_), .grid = grid()};
  }
  int64_t width() const override { return 3; }
  Size2d grid() const override { return {2, 2}; }
  int64_t prefix_tokens() const override { return 0; }

 private:
  at::Tensor weight_ = RegisterParameter("scale", init::Ones(NewParameter({1})));
};

class MeanPooling : public Pooling {
 public:
  TokenContract contract() const override { return {.class_token = false}; }
  at::Tensor Forward(const TokenMap& map) override { return map.tokens.mean(1); }
};

// The first pixel is the class token, the second the distillation token.
class TwoTokenPooling : public Pooling {
 public:
  TokenContract contract() const override { return {.class_token = false, .distillation_token = true}; }
  at::Tensor Forward(const TokenMap& map) override { return map.tokens.narrow(1, 0, 2); }
};

// Its loss is the square of a weight that starts at 2.
class SquareObjective : public Objective {
 public:
  explicit SquareObjective(bool knows_cells) : knows_cells_(knows_cells) {}
  at::Tensor Logits(const ObjectiveInput& input) override { return input.tokens.tokens.mul(weight_); }
  ObjectiveOutput Forward(const ObjectiveInput& input) override {
    ObjectiveOutput output{.loss = weight_.mul(weight_).sum()};
    output.metrics.Add("loss", output.loss, 1);
    return output;
  }
  std::string DefaultName() const override { return "square"; }
  // Where it knows them, the first channel.
  at::Tensor PredictedCells(const ObjectiveInput& input) override {
    return knows_cells_ ? input.tokens.tokens.select(2, 0).to(at::kLong) : at::Tensor();
  }

 private:
  bool knows_cells_;
  at::Tensor weight_ = RegisterParameter("weight", init::Constant(NewParameter({1}), 2));
};

const Registration<Backbone, google::protobuf::BoolValue> kBackbone("", "",
                                                                    [](const google::protobuf::BoolValue& broken,
                                                                       const BackboneContext& context)
                                                                        -> absl::StatusOr<std::unique_ptr<Backbone>> {
                                                                      FieldErrors errors;
                                                                      if (broken.value())
                                                                        errors.Add("value", "is broken");
                                                                      if (context.contract.class_token)
                                                                        errors.Add("", "has no class token");
                                                                      if (!errors.empty()) return errors.ToStatus();
                                                                      return std::make_unique<PixelBackbone>();
                                                                    });
const Registration<Pooling, google::protobuf::Empty> kPooling(
    "", "", [](const google::protobuf::Empty&, const PoolingContext&) -> absl::StatusOr<std::unique_ptr<Pooling>> {
      return std::make_unique<MeanPooling>();
    });
const Registration<Pooling, google::protobuf::Duration> kTwoTokenPooling(
    "", "", [](const google::protobuf::Duration&, const PoolingContext&) -> absl::StatusOr<std::unique_ptr<Pooling>> {
      return std::make_unique<TwoTokenPooling>();
    });
const Registration<Objective, google::protobuf::Timestamp> kObjective(
    "", "",
    [](const google::protobuf::Timestamp& config,
       const ObjectiveContext&) -> absl::StatusOr<std::unique_ptr<Objective>> {
      return std::make_unique<SquareObjective>(/*knows_cells=*/config.seconds() > 0);
    });

TaskContext Context(int objectives = 0) {
  TaskContext context{.image_size = {2, 2}, .class_names = {"a", "b", "c", "d", "e", "f"}};
  context.backbone.PackFrom(google::protobuf::BoolValue());
  context.pooling.PackFrom(google::protobuf::Empty());
  for (int i = 0; i < objectives; ++i) {
    context.objectives.emplace_back().mutable_objective()->PackFrom(google::protobuf::Timestamp());
  }
  return context;
}

std::unique_ptr<Task> Make(const Classification& config, const TaskContext& context) {
  auto task = Registry<Task>::Create(config, context);
  EXPECT_TRUE(task.ok()) << task.status();
  return *std::move(task);
}

Batch MakeBatch() {
  return {.images = at::randn({4, 3, 2, 2}), .labels = at::tensor({0, 5, 2, 2}, at::kLong), .indices = {0, 1, 2, 3}};
}

// log softmax of head(mean of pixels), from the task's own weights.
at::Tensor LogProbabilities(const Task& task, const at::Tensor& images) {
  at::Tensor weight, bias;
  for (const NamedParameter& parameter : task.ModelParameters()) {
    if (parameter.name == "head.weight") weight = parameter.tensor.detach();
    if (parameter.name == "head.bias") bias = parameter.tensor.detach();
  }
  return at::log_softmax(images.mean({2, 3}).matmul(weight.t()).add(bias), 1);
}

TEST(ClassificationTest, LossIsCrossEntropyWithLabelSmoothing) {
  Classification config;
  config.set_label_smoothing(0.1);
  const auto task = Make(config, Context());
  const Batch batch = MakeBatch();
  const at::Tensor log_p = LogProbabilities(*task, batch.images);
  double expected = 0;
  for (int b = 0; b < 4; ++b) {
    for (int k = 0; k < 6; ++k) {
      const double target = 0.1 / 6 + (batch.labels[b].item<int64_t>() == k ? 0.9 : 0);
      expected -= target * log_p[b][k].item<double>() / 4;
    }
  }
  TaskOutput output = task->Train(batch, 0);
  EXPECT_NEAR(output.loss.item<double>(), expected, 1e-5);
  EXPECT_NEAR(output.metrics.Means()["loss"], expected, 1e-5);
}

TEST(ClassificationTest, SoftLabelsReplaceLabels) {
  const auto task = Make({}, Context());
  Batch batch = MakeBatch();
  batch.soft_labels = at::softmax(at::randn({4, 6}), 1);
  const double expected = -LogProbabilities(*task, batch.images).mul(batch.soft_labels).sum().item<double>() / 4;
  EXPECT_NEAR(task->Train(batch, 0).loss.item<double>(), expected, 1e-5);
}

// timm mixes targets that are smoothed already; smoothing the mixed ones is the same.
TEST(ClassificationTest, MixedLabelsAreSmoothedBesideObjectives) {
  Classification config;
  config.set_label_smoothing(0.1);
  const auto task = Make(config, Context(1));
  Batch batch = MakeBatch();
  const std::vector<double> lambda = {0.3, 1, 0.5, 0.75};
  const std::vector<int64_t> label = {0, 5, 2, 2};
  batch.soft_labels = at::zeros({4, 6});
  for (int b = 0; b < 4; ++b) {
    batch.soft_labels[b][label[b]] += lambda[b];
    batch.soft_labels[b][label[3 - b]] += 1 - lambda[b];
  }
  const at::Tensor log_p = LogProbabilities(*task, batch.images);
  double expected = 0;
  for (int b = 0; b < 4; ++b) {
    for (int k = 0; k < 6; ++k) {
      const double own = 0.1 / 6 + (k == label[b] ? 0.9 : 0);
      const double other = 0.1 / 6 + (k == label[3 - b] ? 0.9 : 0);
      expected -= (lambda[b] * own + (1 - lambda[b]) * other) * log_p[b][k].item<double>() / 4;
    }
  }
  EXPECT_NEAR(task->Train(batch, 0).loss.item<double>(), expected + 0.5 * 4, 1e-5);
}

TEST(ClassificationTest, ObjectivesAddTheirWeightedLossAndGetGradients) {
  TaskContext context = Context(2);
  context.objectives[0].set_weight(0.25);
  context.objectives[1].set_name("other");
  const auto task = Make({}, context);
  const double alone = Make({}, Context())->ParameterCount();
  EXPECT_EQ(task->ParameterCount(), alone + 2);
  const Batch batch = MakeBatch();
  const double cross_entropy =
      -LogProbabilities(*task, batch.images).gather(1, batch.labels.unsqueeze(1)).mean().item<double>();
  TaskOutput output = task->Train(batch, 0);
  EXPECT_NEAR(output.loss.item<double>(), cross_entropy + 0.25 * 4 + 0.5 * 4, 1e-5);
  auto means = output.metrics.Means();
  EXPECT_NEAR(means["square/loss"], 4, 1e-6);
  EXPECT_NEAR(means["other/loss"], 4, 1e-6);
  output.loss.backward();
  EXPECT_NEAR(task->ObjectiveParameters().at("square")[0].tensor.grad().item<double>(), 0.25 * 2 * 2, 1e-6);
  EXPECT_NEAR(task->ObjectiveParameters().at("other")[0].tensor.grad().item<double>(), 0.5 * 2 * 2, 1e-6);
}

TEST(ClassificationTest, ObjectivesAreNotPartOfTheModel) {
  const auto task = Make({}, Context(1));
  std::vector<std::string> names;
  for (const NamedParameter& parameter : task->ModelParameters()) names.push_back(parameter.name);
  EXPECT_THAT(names, ElementsAre("scale", "head.weight", "head.bias"));
  EXPECT_EQ(task->Parameters().back().name, "objectives.square.weight");
}

TEST(ClassificationTest, WeightScheduleIsLinearBetweenItsPoints) {
  ObjectiveSpec spec;
  EXPECT_EQ(ObjectiveWeight(spec, 0.3), 0.5);
  spec.set_weight(0);
  EXPECT_EQ(ObjectiveWeight(spec, 0.3), 0);
  for (const auto& [progress, weight] : {std::pair(0.2, 1.0), std::pair(0.6, 0.0), std::pair(0.6, 2.0)}) {
    auto* point = spec.add_weight_schedule();
    point->set_progress(progress);
    point->set_weight(weight);
  }
  EXPECT_EQ(ObjectiveWeight(spec, 0), 1);
  EXPECT_EQ(ObjectiveWeight(spec, 0.2), 1);
  EXPECT_NEAR(ObjectiveWeight(spec, 0.3), 0.75, 1e-12);
  EXPECT_EQ(ObjectiveWeight(spec, 0.6), 2);
  EXPECT_EQ(ObjectiveWeight(spec, 1), 2);
}

Classification Distilled(Distillation::Type type) {
  Classification config;
  config.mutable_distillation()->set_type(type);
  return config;
}

TEST(ClassificationTest, HardDistillationIsCrossEntropyWithTheTeachersClass) {
  const at::Tensor logits = at::randn({4, 6}), teacher = at::randn({4, 6});
  double expected = 0;
  for (int b = 0; b < 4; ++b) {
    int likeliest = 0;
    double sum = 0;
    for (int k = 0; k < 6; ++k) {
      if (teacher[b][k].item<double>() > teacher[b][likeliest].item<double>()) likeliest = k;
      sum += std::exp(logits[b][k].item<double>());
    }
    expected += (std::log(sum) - logits[b][likeliest].item<double>()) / 4;
  }
  const Classification config = Distilled(Distillation::HARD);
  EXPECT_NEAR(DistillationLoss(config.distillation(), logits, teacher).item<double>(), expected, 1e-5);
  EXPECT_NEAR(DistillationLoss(Distillation(), logits, teacher).item<double>(), expected, 1e-5);
}

TEST(ClassificationTest, SoftDistillationIsTheDivergenceAtATemperature) {
  const at::Tensor logits = at::randn({4, 6}), teacher = at::randn({4, 6}).mul(3);
  Distillation config = Distilled(Distillation::SOFT).distillation();
  for (const double temperature : {3.0, 0.5}) {
    if (temperature != 3) config.set_temperature(temperature);
    double expected = 0;
    for (int b = 0; b < 4; ++b) {
      double sum = 0, sum_of_teacher = 0;
      for (int k = 0; k < 6; ++k) {
        sum += std::exp(logits[b][k].item<double>() / temperature);
        sum_of_teacher += std::exp(teacher[b][k].item<double>() / temperature);
      }
      for (int k = 0; k < 6; ++k) {
        const double p = std::exp(logits[b][k].item<double>() / temperature) / sum;
        const double p_of_teacher = std::exp(teacher[b][k].item<double>() / temperature) / sum_of_teacher;
        expected += temperature * temperature / (4 * 6) * p_of_teacher * std::log(p_of_teacher / p);
      }
    }
    EXPECT_NEAR(DistillationLoss(config, logits, teacher).item<double>(), expected, 1e-5 * expected) << temperature;
  }
}

at::Tensor Find(const Task& task, const std::string& name) {
  for (const NamedParameter& parameter : task.ModelParameters()) {
    if (parameter.name == name) return parameter.tensor;
  }
  ADD_FAILURE() << name;
  return {};
}

TEST(ClassificationTest, EachTokenOfADistilledModelHasItsOwnTeacher) {
  TaskContext context = Context(1);
  context.pooling.PackFrom(google::protobuf::Duration());
  Batch batch = MakeBatch();
  batch.teacher_logits = at::randn({4, 6});
  for (const Distillation::Type type : {Distillation::HARD, Distillation::SOFT}) {
    for (const double alpha : {0.0, 0.3, 1.0}) {
      Classification config = Distilled(type);
      config.set_label_smoothing(0.1);
      config.mutable_distillation()->set_alpha(alpha);
      const auto task = Make(config, context);
      EXPECT_TRUE(task->WantsTeacher());
      const at::Tensor pixels = batch.images.flatten(2);  // [B,3,N]
      const auto head = [&](const std::string& name, int pixel) {
        return pixels.select(2, pixel)
            .matmul(Find(*task, name + ".weight").detach().t())
            .add(Find(*task, name + ".bias").detach());
      };
      const at::Tensor log_p = at::log_softmax(head("head", 0), 1), distilled = head("head_dist", 1);
      const double loss_on_labels =
          0.9 * -log_p.gather(1, batch.labels.unsqueeze(1)).mean().item<double>() - 0.1 * log_p.mean().item<double>();
      const double loss_on_teacher =
          DistillationLoss(config.distillation(), distilled, batch.teacher_logits).item<double>();

      TaskOutput output = task->Train(batch, 0);
      EXPECT_NEAR(output.loss.item<double>(), (1 - alpha) * loss_on_labels + alpha * loss_on_teacher + 0.5 * 4, 1e-5);
      auto means = output.metrics.Means();
      EXPECT_NEAR(means["distillation/loss"], loss_on_teacher, 1e-5);
      EXPECT_EQ(means["distillation/agreement"],
                100 * distilled.argmax(1).eq(batch.teacher_logits.argmax(1)).to(at::kDouble).mean().item<double>());
      output.loss.backward();
      const auto learns = [&](const std::string& name) {
        return Find(*task, name).grad().abs().max().item<double>() > 0;
      };
      EXPECT_EQ(learns("head.weight"), alpha < 1);
      EXPECT_EQ(learns("head_dist.weight"), alpha > 0);
    }
  }
}

TEST(ClassificationTest, WithoutDistillationBothHeadsLearnTheLabelsByTheirMean) {
  TaskContext context = Context();
  context.pooling.PackFrom(google::protobuf::Duration());
  const auto task = Make({}, context);
  EXPECT_FALSE(task->WantsTeacher());
  Batch batch = MakeBatch();
  batch.teacher_logits = at::randn({4, 6});  // which nobody asks for
  const at::Tensor log_p = at::log_softmax(task->Predict(batch.images, {}).at("logits").detach(), 1);
  TaskOutput output = task->Train(batch, 0);
  EXPECT_NEAR(output.loss.item<double>(), -log_p.gather(1, batch.labels.unsqueeze(1)).mean().item<double>(), 1e-5);
  EXPECT_EQ(output.metrics.Means().size(), 1);
  output.loss.backward();
  EXPECT_TRUE(at::allclose(Find(*task, "head.bias").grad(), Find(*task, "head_dist.bias").grad()));
}

// Of a model without a distillation token; the soft labels of a mixed batch are the labels' part.
TEST(ClassificationTest, OneHeadLearnsFromLabelsAndTeacher) {
  const auto task = Make(Distilled(Distillation::HARD), Context());
  Batch batch = MakeBatch();
  batch.soft_labels = at::softmax(at::randn({4, 6}), 1);
  batch.teacher_logits = at::randn({4, 6}).set_requires_grad(true);
  const at::Tensor log_p = LogProbabilities(*task, batch.images);
  const double on_labels = -log_p.mul(batch.soft_labels).sum().item<double>() / 4;
  const double on_teacher = -log_p.gather(1, batch.teacher_logits.argmax(1, true)).mean().item<double>();
  const TaskOutput output = task->Train(batch, 0);
  EXPECT_NEAR(output.loss.item<double>(), 0.5 * on_labels + 0.5 * on_teacher, 1e-5);
  output.loss.backward();
  EXPECT_FALSE(batch.teacher_logits.grad().defined());
}

TEST(ClassificationTest, DistillationWithoutTheTeachersLogitsIsABug) {
  const auto task = Make(Distilled(Distillation::SOFT), Context());
  EXPECT_DEATH(task->Train(MakeBatch(), 0), "teacher");
}

TEST(ClassificationTest, MistakesOfTheDistillation) {
  Classification config;
  config.mutable_distillation()->set_type(static_cast<Distillation::Type>(7));
  config.mutable_distillation()->set_alpha(1.5);
  config.mutable_distillation()->set_temperature(0);
  EXPECT_THAT(ErrorPaths(Registry<Task>::Create(config, Context()).status()),
              ElementsAre("task.distillation.type", "task.distillation.alpha", "task.distillation.temperature"));
}

TEST(ClassificationTest, TopOneAndTopFiveCountRanks) {
  const auto task = Make({}, Context());
  for (const NamedParameter& parameter : task->ModelParameters()) {
    at::Tensor data = parameter.tensor.detach();
    if (parameter.name == "head.weight") data.zero_();
    if (parameter.name == "head.bias") data.copy_(at::arange(6));  // class 5 first, then 4, 3, 2, 1; 0 is sixth
  }
  Batch batch = MakeBatch();
  Metrics metrics;
  task->Evaluate(batch, metrics);
  auto means = metrics.Means();
  EXPECT_EQ(means["top1"], 25);
  EXPECT_EQ(means["top5"], 75);
}

TEST(ClassificationTest, FewClassesStillHaveATopFive) {
  TaskContext context = Context();
  context.class_names = {"a", "b"};
  const auto task = Make({}, context);
  Batch batch = MakeBatch();
  batch.labels.zero_();
  Metrics metrics;
  task->Evaluate(batch, metrics);
  EXPECT_EQ(metrics.Means()["top5"], 100);
}

TEST(ClassificationTest, MistakesOfAllPartsComeTogetherWithTheirPlacesInTheSpec) {
  TaskContext context = Context(2);  // two objectives of one name
  context.backbone.PackFrom([] {
    google::protobuf::BoolValue broken;
    broken.set_value(true);
    return broken;
  }());
  context.objectives[0].set_weight(-1);
  Classification config;
  config.set_label_smoothing(1);
  config.set_num_classes(-7);
  EXPECT_THAT(ErrorPaths(Registry<Task>::Create(config, context).status()),
              ElementsAre("task.label_smoothing", "task.num_classes", "backbone.value", "objectives[0].weight"));
  const auto twice = Registry<Task>::Create(Classification(), Context(2)).status();
  EXPECT_THAT(std::string(twice.message()), HasSubstr("objectives[1].name: two objectives are called 'square'"));
}

TEST(ClassificationTest, ObjectivesHaveNamesThatMetricsCanHave) {
  for (const char* name : {"a/b", "a,b", "a b", "distillation", "ä"}) {
    TaskContext context = Context(1);
    context.objectives[0].set_name(name);
    EXPECT_THAT(ErrorPaths(Registry<Task>::Create(Classification(), context).status()),
                ElementsAre("objectives[0].name"))
        << name;
  }
  TaskContext context = Context(1);
  context.objectives[0].set_name("rpl-2_stage.3");
  EXPECT_TRUE(Registry<Task>::Create(Classification(), context).ok());
}

TEST(ClassificationTest, TheDataSetDecidesTheNumberOfClasses) {
  Classification config;
  config.set_num_classes(1000);
  EXPECT_EQ(Make(config, Context())->Predict(at::randn({2, 3, 2, 2}), {}).at("logits").size(1), 6);
}

TEST(ClassificationTest, NumberOfClassesIsNeededWithoutADataSet) {
  TaskContext context = Context();
  context.class_names.clear();
  EXPECT_THAT(std::string(Registry<Task>::Create(Classification(), context).status().message()),
              HasSubstr("task.num_classes"));
  Classification config;
  config.set_num_classes(3);
  EXPECT_EQ(Make(config, context)->Predict(at::randn({2, 3, 2, 2}), {}).at("logits").size(1), 3);
}

TEST(ClassificationTest, PredictGivesTokensWhereAskedFor) {
  const auto task = Make({}, Context());
  EXPECT_EQ(task->Predict(at::randn({2, 3, 2, 2}), {}).count("tokens"), 0);
  const auto outputs = task->Predict(at::randn({2, 3, 2, 2}), {.tokens = true});
  EXPECT_EQ(outputs.at("tokens").sizes(), (std::vector<int64_t>{2, 4, 3}));
}

TEST(ClassificationTest, PredictedCellsAreOfTheObjectivesThatKnowThem) {
  EXPECT_THAT(Make({}, Context())->PredictedCells(at::randn({1, 3, 2, 2})), IsEmpty());
  TaskContext context = Context(2);
  google::protobuf::Timestamp knowing;
  knowing.set_seconds(1);
  context.objectives[1].mutable_objective()->PackFrom(knowing);
  context.objectives[1].set_name("knowing");
  const auto task = Make({}, context);
  at::Tensor images = at::randn({2, 3, 2, 2});
  images.select(1, 0).copy_(at::tensor({3, 1, 2, 0, 0, 1, 2, 2}).view({2, 2, 2}));
  const auto cells = task->PredictedCells(images);
  ASSERT_EQ(cells.size(), 1);
  EXPECT_TRUE(at::equal(cells.at("knowing"), at::tensor({3, 1, 2, 0, 0, 1, 2, 2}, at::kLong).view({2, 4})));
  EXPECT_FALSE(cells.at("knowing").requires_grad());
}

TEST(ClassificationTest, PredictGivesWhatTheObjectivesSayWhereAskedFor) {
  TaskContext context = Context(2);
  context.objectives[1].set_name("other");
  const auto task = Make({}, context);
  const at::Tensor images = at::randn({2, 3, 2, 2});
  EXPECT_EQ(task->Predict(images, {}).size(), 1);
  const auto outputs = task->Predict(images, {.tokens = true, .objectives = true});
  ASSERT_EQ(outputs.size(), 4);
  for (const char* name : {"square/logits", "other/logits"}) {
    EXPECT_TRUE(at::equal(outputs.at(name), outputs.at("tokens").mul(2))) << name;
  }
}

}  // namespace
}  // namespace graticule
