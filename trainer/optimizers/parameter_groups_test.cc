#include "trainer/optimizers/parameter_groups.h"

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/module.h"
#include "plugin/file.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kVit[] = "Vit] { patch_size: 4 embed_dim: 8 depth: 3 num_heads: 2 }";
constexpr char kSwin[] =
    "Swin] { patch_size: 4 embed_dim: 8 depths: [2, 4] num_heads: [2, 2] window_size: 4 norm_epsilon: 1e-5 }";
constexpr char kNest[] = "Nest] { patch_size: 4 embed_dims: [8, 16] depths: [2, 3] num_heads: [2, 2] }";

google::protobuf::Any Plugin(const std::string& text) {
  google::protobuf::Any any;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString("[type.googleapis.com/graticule." + text, &any)) << text;
  return any;
}

std::unique_ptr<Task> NewTask(const std::string& backbone, const std::string& pooling, bool objective = false,
                              int64_t image_size = 16) {
  TaskContext context{.backbone = Plugin(backbone),
                      .pooling = Plugin(pooling),
                      .image_size = {image_size, image_size},
                      .class_names = {"a", "b", "c"}};
  if (objective) *context.objectives.emplace_back().mutable_objective() = Plugin("AbsolutePositionalLabel] {}");
  auto task = Registry<Task>::Create(Plugin("Classification] {}"), context);
  EXPECT_TRUE(task.ok()) << task.status();
  return *std::move(task);
}

Trainer Parse(const std::string& text) {
  Trainer trainer;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &trainer)) << text;
  return trainer;
}

std::map<std::string, TrainedParameter> ByName(const Trainer& trainer, const Task& task) {
  const auto parameters = TrainedParameters(trainer, task);
  EXPECT_TRUE(parameters.ok()) << parameters.status();
  std::map<std::string, TrainedParameter> by_name;
  for (const TrainedParameter& parameter : *parameters) by_name[parameter.name] = parameter;
  return by_name;
}

std::map<std::string, std::string> MistakesOf(const std::string& trainer, const Task& task) {
  return Errors(TrainedParameters(Parse(trainer), task).status());
}

// A weight alone.
class LayerlessTask : public Task {
 public:
  LayerlessTask() { RegisterParameter("weight", init::Ones(NewParameter({2, 2}))); }

  TaskOutput Train(const Batch&, double) override { return {}; }
  void Evaluate(const Batch&, Metrics&) override {}
  std::vector<std::string> EvaluationMetrics() const override { return {""}; }
  std::map<std::string, at::Tensor> Predict(const at::Tensor&, const PredictOptions&) override { return {}; }
  std::vector<NamedParameter> ModelParameters() const override { return Parameters(); }
  std::vector<NamedBuffer> ModelBuffers() const override { return {}; }
  std::map<std::string, std::vector<NamedParameter>> ObjectiveParameters() const override { return {}; }
  std::vector<std::string> ClassifierNames() const override { return {}; }
};

TEST(TrainedParametersTest, WithoutFieldsAreTheTrainableOnesInOrder) {
  const auto task =
      NewTask("Vit] { patch_size: 4 embed_dim: 8 depth: 1 num_heads: 2 position: SINUSOID_2D }", "Mpvg] {}");
  const auto trained = TrainedParameters(Trainer(), *task);
  ASSERT_TRUE(trained.ok()) << trained.status();
  std::vector<NamedParameter> expected;
  for (const NamedParameter& parameter : task->Parameters()) {
    if (parameter.trainable) expected.push_back(parameter);
  }
  EXPECT_EQ(expected.size() + 1, task->Parameters().size());  // without the sinusoid
  ASSERT_EQ(trained->size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ((*trained)[i].name, expected[i].name);
    EXPECT_TRUE((*trained)[i].tensor.is_same(expected[i].tensor));
    EXPECT_EQ((*trained)[i].learning_rate_scale, 1);
    EXPECT_EQ((*trained)[i].weight_decay_scale, expected[i].decay ? 1 : 0);
  }
}

TEST(TrainedParametersTest, TheFirstGroupThatMatchesCounts) {
  const auto task = NewTask(kVit, "ClassToken] {}");
  const auto by_name = ByName(Parse(R"pb(
                                parameter_groups { pattern: "blocks.[01].*.bias" weight_decay: 7 }
                                parameter_groups { pattern: "blocks.?.attn.*" learning_rate: 0.5 weight_decay: 3 }
                                parameter_groups { pattern: "blocks.*" learning_rate: 0 }
                              )pb"),
                              *task);
  const auto expect = [&](const std::string& name, double learning_rate, double weight_decay) {
    EXPECT_EQ(by_name.at(name).learning_rate_scale, learning_rate) << name;
    EXPECT_EQ(by_name.at(name).weight_decay_scale, weight_decay) << name;
  };
  expect("blocks.0.attn.qkv.bias", 1, 0);  // what does not decay stays so
  expect("blocks.2.attn.qkv.bias", 0.5, 0);
  expect("blocks.2.attn.qkv.weight", 0.5, 3);
  expect("blocks.2.mlp.fc1.weight", 0, 1);
  expect("head.weight", 1, 1);
}

TEST(TrainedParametersTest, FrozenOnesAreLeftOutAndGetNoGradient) {
  const auto task = NewTask(kVit, "ClassToken] {}");
  const auto by_name = ByName(Parse(R"pb(parameter_groups { pattern: "blocks.1.norm1.*" }
                                         parameter_groups { pattern: "blocks.*" frozen: true })pb"),
                              *task);
  for (const NamedParameter& parameter : task->Parameters()) {
    const bool frozen = parameter.name.starts_with("blocks.") && !parameter.name.starts_with("blocks.1.norm1.");
    EXPECT_EQ(by_name.count(parameter.name), frozen ? 0 : 1) << parameter.name;
    EXPECT_EQ(parameter.tensor.requires_grad(), !frozen) << parameter.name;
  }
}

// `testdata/layer_decay.txt` is what timm makes of the same models (tools/parity/make_optimizer_fixtures.py).
TEST(TrainedParametersTest, LayersDecayAsInTimm) {
  std::map<std::string, std::map<std::string, TrainedParameter>> models;
  const Trainer trainer = Parse("layer_decay: 0.75");
  models["vit"] = ByName(trainer, *NewTask(kVit, "ClassToken] {}"));
  models["swin"] = ByName(trainer, *NewTask(kSwin, "Average] {}", false, 32));
  models["nest"] = ByName(trainer, *NewTask(kNest, "Average] {}", false, 32));
  const auto text = ReadFile("trainer/optimizers/testdata/layer_decay.txt");
  ASSERT_TRUE(text.ok()) << text.status();
  std::istringstream lines(*text);
  std::string model, name;
  double learning_rate, weight_decay;
  size_t count = 0;
  for (; lines >> model >> name >> learning_rate >> weight_decay; ++count) {
    ASSERT_EQ(models[model].count(name), 1) << model << " " << name;
    EXPECT_EQ(models[model][name].learning_rate_scale, learning_rate) << model << " " << name;
    // timm spares tensors of NesT by names that they don't have.
    if (model == "nest" && name.ends_with("pos_embed")) weight_decay = 0;
    EXPECT_EQ(models[model][name].weight_decay_scale, weight_decay) << model << " " << name;
  }
  EXPECT_EQ(count, models["vit"].size() + models["swin"].size() + models["nest"].size());
}

TEST(TrainedParametersTest, WhatBelongsToALayerHasItsRate) {
  const auto task = NewTask(
      "Vit] { patch_size: 4 embed_dim: 8 depth: 3 num_heads: 2 conditional_position_after: [0, 2] }", "Mpvg] {}", true);
  const auto by_name = ByName(Parse(R"pb(layer_decay: 0.5
                                         parameter_groups { pattern: "*pos_norm*" learning_rate: 3 })pb"),
                              *task);
  const auto scale = [&](const std::string& name) { return by_name.at(name).learning_rate_scale; };
  EXPECT_EQ(scale("pos_embed"), 0.0625);
  EXPECT_EQ(scale("pos_norms.1.weight"), 3 * 0.25);
  EXPECT_EQ(scale("pos_norms.2.bias"), 3 * 0.5);
  EXPECT_EQ(scale("last_pos_norm.weight"), 3 * 0.5);
  EXPECT_EQ(scale("pos_block.0.proj.0.weight"), 0.125);
  EXPECT_EQ(scale("pos_block.1.proj.0.weight"), 0.5);
  EXPECT_EQ(scale("head.weight"), 1);
  EXPECT_EQ(scale(absl::StrCat("objectives.", task->ObjectiveParameters().begin()->first, ".",
                               task->ObjectiveParameters().begin()->second.front().name)),
            1);

  const auto ceit =
      ByName(Parse("layer_decay: 0.5"),
             *NewTask("Ceit] { patch_size: 8 stem_width: 8 embed_dim: 16 depth: 2 num_heads: 2 }", "ClassToken] {}"));
  EXPECT_EQ(ceit.at("i2t.backbone.conv.weight").learning_rate_scale, 0.125);
  EXPECT_EQ(ceit.at("blocks.0.leff.conv1.weight").learning_rate_scale, 0.25);
  EXPECT_EQ(ceit.at("pos_layer_embed").learning_rate_scale, 0.5);
  EXPECT_EQ(ceit.at("lca.attn.qkv.weight").learning_rate_scale, 0.5);
}

TEST(TrainedParametersTest, RolesTellMatricesAndClassifiers) {
  using Role = TrainedParameter::Role;
  std::set<std::string> matrices, classifiers;
  const auto find = [&](const Task& task) {
    matrices.clear();
    classifiers.clear();
    for (const auto& [name, parameter] : ByName(Trainer(), task)) {
      if (parameter.role == Role::kMatrix) matrices.insert(name);
      if (parameter.role == Role::kClassifier) classifiers.insert(name);
    }
  };
  find(*NewTask("Vit] { patch_size: 4 embed_dim: 8 depth: 1 num_heads: 2 }", "ClassToken] {}", true));
  EXPECT_THAT(matrices, ElementsAre("blocks.0.attn.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight",
                                    "blocks.0.mlp.fc2.weight"));
  EXPECT_THAT(classifiers, ElementsAre("head.bias", "head.weight"));

  // Neither tables of relative positions nor depth-wise kernels; what leads from stage to stage.
  find(*NewTask(kSwin, "Average] {}", false, 32));
  EXPECT_EQ(matrices.size(), 6 * 4 + 1);
  EXPECT_EQ(matrices.count("layers.1.downsample.reduction.weight"), 1);
  find(*NewTask("Ceit] { patch_size: 8 stem_width: 8 embed_dim: 16 depth: 1 num_heads: 2 }", "ClassToken] {}"));
  EXPECT_THAT(matrices, AllOf(testing::Contains("blocks.0.leff.conv1.weight"),
                              testing::Not(testing::Contains("blocks.0.leff.conv2.weight")),
                              testing::Not(testing::Contains("i2t.proj.weight"))));
}

TEST(TrainedParametersTest, MistakesComeTogetherWithTheirFields) {
  const auto task = NewTask(kVit, "ClassToken] {}");
  const auto errors = MistakesOf(R"pb(
                                   layer_decay: 1.5
                                   parameter_groups { pattern: "block.0.*" }
                                   parameter_groups { learning_rate: -1 }
                                   parameter_groups { pattern: "norm.*" frozen: true weight_decay: 2 }
                                   parameter_groups { pattern: "head.weight" weight_decay: inf }
                                 )pb",
                                 *task);
  EXPECT_EQ(errors.size(), 6);
  EXPECT_EQ(errors.at("trainer.layer_decay"), "must be in (0, 1], found 1.5");
  EXPECT_EQ(
      errors.at("trainer.parameter_groups[0].pattern"),
      "no trained parameter is called 'block.0.*'; there are cls_token, pos_embed, patch_embed.*, blocks.*, norm.*, "
      "head.*; did you mean 'blocks.0.*'?");
  EXPECT_THAT(errors.at("trainer.parameter_groups[1].pattern"), HasSubstr("must be given"));
  EXPECT_EQ(errors.at("trainer.parameter_groups[1].learning_rate"), "must not be negative, found -1");
  EXPECT_EQ(errors.at("trainer.parameter_groups[2].weight_decay"), "has no effect on frozen parameters");
  EXPECT_EQ(errors.at("trainer.parameter_groups[3].weight_decay"), "must not be negative, found inf");
  for (const NamedParameter& parameter : task->Parameters()) EXPECT_TRUE(parameter.tensor.requires_grad());
}

TEST(TrainedParametersTest, GroupsThatLeaveNothing) {
  const auto task = NewTask(kVit, "ClassToken] {}");
  EXPECT_EQ(MistakesOf(R"pb(parameter_groups { pattern: "norm.*" learning_rate: 2 }
                            parameter_groups { pattern: "norm.weight" learning_rate: 3 })pb",
                       *task),
            (std::map<std::string, std::string>{
                {"trainer.parameter_groups[1].pattern",
                 "'norm.weight' comes too late: the groups before it have all 1 parameters that it matches"}}));
  EXPECT_EQ(MistakesOf(R"pb(parameter_groups { pattern: "*" frozen: true })pb", *task),
            (std::map<std::string, std::string>{
                {"trainer.parameter_groups", "freeze all parameters; nothing is left to train"}}));
  EXPECT_EQ(MistakesOf("layer_decay: 0.5", LayerlessTask()),
            (std::map<std::string, std::string>{
                {"trainer.layer_decay", "the model says of none of its modules that it is a layer"}}));
  EXPECT_EQ(MistakesOf("layer_decay: nan", *task).count("trainer.layer_decay"), 1);
  EXPECT_EQ(MistakesOf("layer_decay: -0.5", *task).count("trainer.layer_decay"), 1);
}

}  // namespace
}  // namespace graticule
