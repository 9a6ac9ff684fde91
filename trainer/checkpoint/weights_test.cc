#include "trainer/checkpoint/weights.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A model of five tensors whose positions adapt to another number of rows, with an objective of one. Two other codes
// have it: one calls the blocks layers and stores an index, the other one's norm means something else.
class FakeTask : public Task {
 public:
  explicit FakeTask(int64_t width = 4, int64_t positions = 3, int64_t classes = 10) {
    weight_ = RegisterParameter("blocks.0.weight", at::zeros({width, width}));
    position_ = RegisterParameter("pos_embed", at::zeros({1, positions, width}), {.decay = false});
    head_weight_ = RegisterParameter("head.weight", at::zeros({classes, width}));
    head_bias_ = RegisterParameter("head.bias", at::zeros({classes}));
    mean_ = RegisterBuffer("norm.running_mean", at::zeros({width}));
    objective_ = RegisterParameter("apl.fc.weight", at::zeros({5}));
  }

  TaskOutput Train(const Batch&, double) override { return {}; }
  void Evaluate(const Batch&, Metrics&) override {}
  std::vector<std::string> EvaluationMetrics() const override { return {"top1"}; }
  std::map<std::string, at::Tensor> Predict(const at::Tensor&, const PredictOptions&) override { return {}; }
  std::vector<NamedParameter> ModelParameters() const override {
    std::vector<NamedParameter> parameters = Parameters();
    parameters.pop_back();
    return parameters;
  }
  std::vector<NamedBuffer> ModelBuffers() const override { return Buffers(); }
  std::map<std::string, std::vector<NamedParameter>> ObjectiveParameters() const override {
    return {{"apl", {{"fc.weight", objective_, true, true}}}};
  }
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override {
    if (name != "pos_embed" || loaded.dim() != 3 || loaded.size(2) != position_.size(2)) return at::Tensor();
    return loaded.mean(1, true).expand_as(position_);
  }
  std::vector<std::string> ClassifierNames() const override { return {"head.weight", "head.bias"}; }
  std::vector<WeightLayout> Layouts() const override {
    const auto layers = [](const std::string& ours) {
      if (ours == "pos_embed") return std::string("positions");
      return absl::StrReplaceAll(ours, {{"blocks.", "layers."}, {"head.", "fc."}});
    };
    const auto norms = [](const std::string& ours) { return absl::StrReplaceAll(ours, {{"norm.", "fc_norm."}}); };
    return {{.name = "them/layers",
             .name_there = layers,
             .is_derived = [](const std::string& theirs) { return theirs.ends_with("index"); }},
            {.name = "them/norms", .name_there = norms, .refusal = "which norms the mean"}};
  }
  std::map<std::string, std::vector<WeightLayout>> ObjectiveLayouts() const override {
    return {{"apl", {{.name = "them", .name_there = [](const std::string& ours) { return "To2D." + ours; }}}}};
  }

  void Fill(float value) {
    for (auto& [name, tensor] : ModelTensors(*this).tensors) tensor.fill_(value);
  }

 private:
  at::Tensor weight_, position_, head_weight_, head_bias_, mean_, objective_;
};

Safetensors Weights(FakeTask& source, float value) {
  source.Fill(value);
  return ModelTensors(source);
}

Safetensors Weights(float value) {
  FakeTask source;
  return Weights(source, value);
}

float First(const FakeTask& task, const std::string& name) {
  return ModelTensors(task).Find(name).flatten()[0].item<float>();
}

// Of all tensors of the model.
void ExpectFilled(const FakeTask& task, float value) {
  for (const auto& [name, tensor] : ModelTensors(task).tensors) EXPECT_EQ(First(task, name), value) << name;
}

float FirstOfObjective(const FakeTask& task) { return ObjectiveTensors(task).tensors[0].second[0].item<float>(); }

void Rename(Safetensors& weights, const std::string& from, const std::string& to) {
  for (auto& [name, tensor] : weights.tensors) {
    if (name.starts_with(from)) name = to + name.substr(from.size());
  }
}

std::string Error(const Safetensors& weights, FakeTask& task) {
  const absl::Status status = LoadWeights(weights, task).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  return std::string(status.message());
}

// Older versions of PyTorch do not write it, and nothing depends on it.
TEST(LoadWeightsTest, ABatchNormsCountOfBatchesMayBeMissing) {
  struct Counting : FakeTask {
    Counting() { RegisterBuffer("norm.num_batches_tracked", at::zeros({1})); }
  } target;
  const auto report = LoadWeights(Weights(3), target);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(First(target, "blocks.0.weight"), 3);
  EXPECT_EQ(First(target, "norm.num_batches_tracked"), 0);
}

TEST(LoadWeightsTest, CopiesByName) {
  FakeTask target;
  Safetensors weights = Weights(3);
  std::swap(weights.tensors.front(), weights.tensors.back());
  weights.tensors.emplace_back("extra", at::zeros({2}));
  for (auto& [name, tensor] : weights.tensors) tensor = tensor.to(at::kBFloat16);
  const auto report = LoadWeights(weights, target);
  ASSERT_TRUE(report.ok()) << report.status();
  ExpectFilled(target, 3);
  EXPECT_EQ(ModelTensors(target).Find("pos_embed").scalar_type(), at::kFloat);
  EXPECT_EQ(report->loaded.size(), 5);
  EXPECT_EQ(report->layout, "");
  EXPECT_THAT(report->ignored, ElementsAre("extra"));
  EXPECT_EQ(report->ToString(),
            "5 tensors loaded; fresh objectives: apl; ignored, as the model has none of this name: extra");
}

TEST(LoadWeightsTest, PositionsAreAdapted) {
  FakeTask source(4, 6), target(4, 3);
  const auto report = LoadWeights(Weights(source, 2), target);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->adapted, ElementsAre("pos_embed"));
  EXPECT_EQ(First(target, "pos_embed"), 2);
  EXPECT_THAT(report->ToString(), HasSubstr("adapted to this model's size: pos_embed"));
}

TEST(LoadWeightsTest, ClassifierOfOtherClassesStaysFresh) {
  FakeTask source(4, 3, 1000), target(4, 3, 10);
  const Safetensors weights = Weights(source, 2);
  const auto report = LoadWeights(weights, target);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->reinitialised, ElementsAre("head.weight", "head.bias"));
  EXPECT_THAT(report->ignored, IsEmpty());
  EXPECT_EQ(First(target, "head.weight"), 0);
  EXPECT_EQ(First(target, "blocks.0.weight"), 2);
  EXPECT_THAT(report->ToString(), HasSubstr("left fresh"));

  Safetensors headless = weights;
  std::erase_if(headless.tensors, [](const auto& entry) { return entry.first.starts_with("head."); });
  EXPECT_THAT(LoadWeights(headless, target)->reinitialised, ElementsAre("head.weight", "head.bias"));
}

TEST(LoadWeightsTest, FindsTheLayoutOfAnotherCode) {
  FakeTask target;
  Safetensors weights = Weights(4);
  Rename(weights, "blocks.", "layers.");
  Rename(weights, "head.", "fc.");
  Rename(weights, "pos_embed", "positions");
  weights.tensors.emplace_back("layers.0.index", at::zeros({9}));
  const auto report = LoadWeights(weights, target);
  ASSERT_TRUE(report.ok()) << report.status();
  ExpectFilled(target, 4);
  EXPECT_EQ(report->layout, "them/layers");
  EXPECT_THAT(report->ignored, IsEmpty());
  EXPECT_THAT(report->reinitialised, IsEmpty());
  EXPECT_THAT(report->ToString(), HasSubstr("5 tensors loaded by the names of them/layers"));

  // An index that another code stores is worth no word in a file of our names either.
  Safetensors ours = Weights(5);
  ours.tensors.emplace_back("blocks.0.index", at::zeros({9}));
  EXPECT_THAT(LoadWeights(ours, target)->ignored, IsEmpty());
}

TEST(LoadWeightsTest, LooksBehindThePrefixesOfWrappers) {
  for (const std::string prefix : {"module.", "model.", "_orig_mod.module.", "module.model.backbone."}) {
    SCOPED_TRACE(prefix);
    FakeTask target;
    Safetensors weights = Weights(6);
    Rename(weights, "blocks.", "layers.");
    Rename(weights, "pos_embed", "positions");
    Rename(weights, "", prefix);
    // A classifier beside the backbone that is wrapped.
    Rename(weights, prefix + "head.", "fc.");
    const auto report = LoadWeights(weights, target);
    ASSERT_TRUE(report.ok()) << report.status();
    ExpectFilled(target, 6);
    EXPECT_EQ(report->prefix, prefix);
    EXPECT_EQ(report->layout, "them/layers");
    EXPECT_THAT(report->ignored, IsEmpty());
    EXPECT_THAT(report->ToString(), HasSubstr(absl::StrCat("behind '", prefix, "'")));
  }
  // A name like a wrapper's is no reason to give up.
  Safetensors hostile = Weights(7);
  std::string name;
  for (int i = 0; i < 10000; ++i) name += "module.";
  hostile.tensors.emplace_back(name, at::zeros({1}));
  FakeTask target;
  EXPECT_TRUE(LoadWeights(hostile, target).ok());
  ExpectFilled(target, 7);
}

TEST(LoadWeightsTest, ObjectivesHaveTheirWeightsFromOurFilesAndThoseOfOtherCodes) {
  for (const std::string name : {"objectives.apl.fc.weight", "To2D.fc.weight"}) {
    FakeTask target;
    Safetensors weights = Weights(1);
    weights.tensors.emplace_back(name, at::full({5}, 8.0));
    const auto report = LoadWeights(weights, target);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(FirstOfObjective(target), 8);
    EXPECT_THAT(report->objectives, ElementsAre("apl"));
    EXPECT_THAT(report->ignored, IsEmpty());
    EXPECT_THAT(report->ToString(), HasSubstr("objectives too: apl"));

    // Of another grid, say.
    weights.tensors.back().second = at::full({6}, 9.0);
    const auto other = LoadWeights(weights, target);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(FirstOfObjective(target), 8);
    EXPECT_THAT(other->fresh_objectives, ElementsAre("apl"));
    EXPECT_THAT(other->ignored, ElementsAre(name));
  }
}

TEST(LoadWeightsTest, AnotherModelIsRefusedUnchanged) {
  FakeTask source(8), target(4);
  Safetensors weights = Weights(source, 2);
  std::erase_if(weights.tensors, [](const auto& entry) { return entry.first == "norm.running_mean"; });
  weights.tensors.emplace_back("layers.0.weight", at::zeros({1}));
  weights.tensors.emplace_back("objectives.apl.fc.weight", at::full({5}, 2.0));
  EXPECT_THAT(Error(weights, target),
              AllOf(HasSubstr("a checkpoint of another model: the shapes of 2 tensors differ"),
                    HasSubstr("blocks.0.weight is [8,8] instead of [4,4]"),
                    HasSubstr("pos_embed is [1,3,8] instead of [1,3,4]"),
                    HasSubstr("1 tensors are missing: norm.running_mean"), HasSubstr("layers.0.weight")));
  ExpectFilled(target, 0);
  EXPECT_EQ(FirstOfObjective(target), 0);
}

TEST(LoadWeightsTest, AnErrorNamesTheNearestLayoutAndBothNames) {
  FakeTask source(8), target(4);
  Safetensors weights = Weights(source, 2);
  Rename(weights, "blocks.", "layers.");
  Rename(weights, "pos_embed", "positions");
  std::erase_if(weights.tensors, [](const auto& entry) { return entry.first == "norm.running_mean"; });
  EXPECT_THAT(Error(weights, target),
              AllOf(HasSubstr("another model, nearest to the names of them/layers: "),
                    HasSubstr("blocks.0.weight (there layers.0.weight) is [8,8] instead of [4,4]"),
                    HasSubstr("1 tensors are missing: norm.running_mean")));
}

TEST(LoadWeightsTest, ALayoutThatIsAnotherFunctionSaysSo) {
  FakeTask target;
  Safetensors weights = Weights(2);
  Rename(weights, "norm.", "fc_norm.");
  EXPECT_EQ(Error(weights, target), "a checkpoint of them/norms, which norms the mean");
  ExpectFilled(target, 0);
}

TEST(LoadWeightsTest, LongListsAreCut) {
  Safetensors weights;
  for (int i = 0; i < 9; ++i) weights.tensors.emplace_back(absl::StrCat("x", i), at::zeros({1}));
  FakeTask target;
  EXPECT_THAT(Error(weights, target), AllOf(HasSubstr("3 tensors are missing"), Not(HasSubstr("nearest")),
                                            HasSubstr("it has others: x0, x1, x2 and 6 more")));
}

}  // namespace
}  // namespace graticule
