// Every model of configs/models at the size it is published with: its parameters, its multiply-adds, and one image
// through fresh weights.
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/randn.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "app/model_summary.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "plugin/file.h"
#include "tests/program.h"
#include "trainer/parts.h"
#include "trainer/spec.h"

namespace graticule {
namespace {

// Multiply-adds in 1e9 and how precisely they were published, by the papers and official codes, and by timm for NesT.
struct PublishedMacs {
  double giga;
  double last_digit;
  bool attention = true;  // q·kᵀ and the weights times v are among them
};
const std::map<std::string, PublishedMacs>& Published() {
  static const auto* macs = new std::map<std::string, PublishedMacs>{
      {"vit_base_patch16_224", {17.56, 0.01}},
      {"deit_base_patch16_224", {17.56, 0.01}},
      {"deit_small_patch16_224", {4.6, 0.1}},
      {"deit_tiny_patch16_224", {1.3, 0.1}},
      {"swin_tiny_patch4_window7_224", {4.5, 0.1}},
      {"swin_small_patch4_window7_224", {8.7, 0.1}},
      {"swin_base_patch4_window7_224", {15.4, 0.1}},
      {"nest_tiny", {5.83, 0.01}},
      {"nest_small", {10.35, 0.01}},
      {"nest_base", {17.96, 0.01}},
      {"nest_tiny_jx", {5.83, 0.01}},
      {"nest_small_jx", {10.35, 0.01}},
      {"nest_base_jx", {17.96, 0.01}},
      {"ceit_tiny", {1.40, 0.01}},
      {"ceit_small", {4.76, 0.01}},
      {"t2t_vit_7", {1.1, 0.1}},
      {"t2t_vit_10", {1.5, 0.1}},
      {"t2t_vit_12", {1.8, 0.1}},
      {"t2t_vit_14", {4.8, 0.1}},
      {"vit_lite_7_4_32", {0.239, 0.001, false}},
      {"vit_lite_6_4_32", {0.205, 0.001, false}},
      {"cvt_7_4_32", {0.236, 0.001, false}},
      {"cct_7_3x1_32", {0.947, 0.001, false}},
  };
  return *macs;
}

std::vector<std::string> Models() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(Runfile("graticule/configs/models"))) {
    if (entry.path().extension() == ".textproto") names.insert(entry.path().stem().string());
  }
  return {names.begin(), names.end()};
}

class FullSizeTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    path_ = Runfile(absl::StrCat("graticule/configs/models/", GetParam(), ".textproto"));
    auto spec = Spec::Load(path_);
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    experiment_ = spec->experiment();
  }

  std::string path_;
  Experiment experiment_;
};

TEST_P(FullSizeTest, HasTheParametersOfItsHeaderAndThePublishedMultiplyAdds) {
  const auto summary = SummariseModel(experiment_, /*depth=*/1);
  ASSERT_TRUE(summary.ok()) << summary.status();

  const auto text = ReadFile(path_);
  ASSERT_TRUE(text.ok()) << text.status();
  const std::string key = "Parameters: ";
  const size_t begin = text->find(key);
  ASSERT_NE(begin, std::string::npos) << "the header does not say how many parameters the model has";
  const size_t end = text->find_first_not_of("0123456789,", begin + key.size());
  const std::string digits =
      absl::StrReplaceAll(text->substr(begin + key.size(), end - begin - key.size()), {{",", ""}});
  EXPECT_EQ(std::to_string(summary->parameters), digits);

  if (const auto found = Published().find(GetParam()); found != Published().end()) {
    const auto [giga, last_digit, attention] = found->second;
    int64_t macs = summary->macs.total;
    if (!attention) macs -= summary->macs.by_operator.at("scaled_dot_product_attention");
    EXPECT_NEAR(macs / 1e9, giga, std::max(0.01 * giga, last_digit / 2));
  }
}

TEST_P(FullSizeTest, AnImageGoesThroughFreshWeights) {
  const auto task = BuildTask(experiment_, {});
  ASSERT_TRUE(task.ok()) << task.status();
  (*task)->SetTraining(false);
  const auto images = BuildEvalTransforms(experiment_);
  ASSERT_TRUE(images.ok()) << images.status();
  at::manual_seed(1);
  c10::NoGradGuard no_grad;
  const at::Tensor logits =
      (*task)->Predict(at::randn({1, 3, images->image_size.height, images->image_size.width}), {}).at("logits");
  EXPECT_GE(logits.size(1), 10);
  EXPECT_TRUE(logits.isfinite().all().item<bool>());
  EXPECT_GT(logits.std().item<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, FullSizeTest, testing::ValuesIn(Models()),
                         [](const testing::TestParamInfo<std::string>& info) { return info.param; });

// A model that is renamed must not leave the list of figures behind.
TEST(PublishedMacsTest, EveryFigureIsOfAModel) {
  const std::vector<std::string> models = Models();
  const std::set<std::string> names(models.begin(), models.end());
  for (const auto& [name, macs] : Published()) EXPECT_TRUE(names.contains(name)) << name;
}

}  // namespace
}  // namespace graticule
