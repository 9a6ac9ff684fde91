// A training step of Vit with Jigsaw is that of Jigsaw-ViT's authors' code. The fixture is made by
// tools/parity/make_jigsaw_fixture.py.
#include <map>
#include <memory>
#include <string>

#include "ATen/Context.h"
#include "ATen/TensorOperators.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "plugin/registry.h"
#include "tasks/task.h"
#include "trainer/checkpoint/weights.h"

namespace graticule {
namespace {

google::protobuf::Any Parse(const std::string& text) {
  google::protobuf::Any any;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &any)) << text;
  return any;
}

TEST(JigsawParityTest, ATrainingStepIsTheAuthors) {
  const auto fixture = ReadSafetensors("tests/testdata/jigsaw_vit.safetensors");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  TaskContext context{
      .backbone = Parse("[type.googleapis.com/graticule.Vit] { patch_size: 4 embed_dim: 24 depth: 2 num_heads: 3 }"),
      .pooling = Parse("[type.googleapis.com/graticule.ClassToken] {}"),
      .image_size = {16, 16},
      .class_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}};
  ObjectiveSpec& objective = context.objectives.emplace_back();
  objective.set_weight(0.1);
  *objective.mutable_objective() = Parse("[type.googleapis.com/graticule.Jigsaw] {}");
  const auto task = Registry<Task>::Create(Parse("[type.googleapis.com/graticule.Classification] {}"), context);
  ASSERT_TRUE(task.ok()) << task.status();

  Safetensors weights;
  std::map<std::string, at::Tensor> gradients;
  for (const auto& [name, tensor] : fixture->tensors) {
    if (name.starts_with("grad/")) gradients[name.substr(5)] = tensor;
  }
  for (const auto& [name, tensor] : gradients) weights.tensors.emplace_back(name, fixture->Find(name));
  const auto report = LoadWeights(weights, **task);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->fresh_objectives.empty()) << report->ToString();
  EXPECT_TRUE(report->ignored.empty()) << report->ToString();

  const at::Tensor images = fixture->Find("images");
  const at::Tensor logits = (*task)->Predict(images, {}).at("logits");
  EXPECT_LT((logits - fixture->Find("logits")).abs().max().item<double>(), 5e-5);

  at::manual_seed(7);
  const TaskOutput output = (*task)->Train({.images = images, .labels = fixture->Find("labels"), .indices = {0, 1}}, 0);
  EXPECT_NEAR(output.metrics.Means()["jigsaw/loss"], fixture->Find("jigsaw_loss").item<double>(), 5e-5);
  const at::Tensor right = fixture->Find("jigsaw_logits").argmax(1).eq(fixture->Find("jigsaw_targets"));
  EXPECT_NEAR(output.metrics.Means()["jigsaw/accuracy"], 100 * right.to(at::kDouble).mean().item<double>(), 1e-4);
  EXPECT_NEAR(output.loss.item<double>(),
              fixture->Find("loss").item<double>() + 0.1 * fixture->Find("jigsaw_loss").item<double>(), 5e-5);

  output.loss.backward();
  const auto layout = (*task)->ObjectiveLayouts().at("jigsaw").at(0);
  size_t compared = 0;
  const auto expect_gradient = [&](const NamedParameter& parameter, const std::string& name) {
    const at::Tensor expected = gradients.at(name);
    EXPECT_LT((parameter.tensor.grad() - expected).norm().item<double>(), 1e-3 * expected.norm().item<double>())
        << name;
    ++compared;
  };
  for (const NamedParameter& parameter : (*task)->ModelParameters()) expect_gradient(parameter, parameter.name);
  const auto objectives = (*task)->ObjectiveParameters();
  for (const NamedParameter& parameter : objectives.at("jigsaw")) {
    expect_gradient(parameter, layout.name_there(parameter.name));
  }
  EXPECT_EQ(compared, gradients.size());
}

}  // namespace
}  // namespace graticule
