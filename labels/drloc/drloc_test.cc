#include "labels/drloc/drloc.h"

#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/randperm.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/tensor.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "nn/testing.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Objective> Make(int64_t width, Size2d grid, const Drloc& config) {
  return BuildPlugin<Objective>(config, {.width = width, .grid = grid});
}

// ---- The authors' code ----------------------------------------------------------------------------------------------

void ExpectParity(const std::string& name, Drloc config) {
  SCOPED_TRACE(name);
  const Safetensors fixture = ReadFixture(absl::StrCat("labels/drloc/testdata/", name, ".safetensors"));
  config.set_hidden_dim(16);
  config.set_pairs_per_image(5);
  const auto objective = Make(6, {3, 3}, config);
  const WeightLayout layout = objective->Layouts().at(0);
  size_t found = 0;
  for (const auto& [ours, tensor] : ByName(*objective)) {
    const at::Tensor theirs = fixture.Find(layout.name_there(ours));
    ASSERT_TRUE(theirs.defined()) << ours;
    ASSERT_EQ(theirs.sizes(), tensor.sizes()) << ours;
    tensor.detach().copy_(theirs);
    ++found;
  }
  size_t weights = 0;
  for (const auto& [theirs, tensor] : fixture.tensors) weights += theirs.starts_with("drloc.");
  EXPECT_EQ(found, weights);

  TokenMap map{.tokens = fixture.Find("tokens").requires_grad_(true), .grid = {3, 3}};
  const at::Tensor logits = objective->Logits({map});
  ASSERT_EQ(logits.sizes(), fixture.Find("logits").sizes());
  EXPECT_LT(LargestDifference(logits, fixture.Find("logits")), 5e-5);

  at::manual_seed(7);
  const ObjectiveOutput output = objective->Forward({map});
  EXPECT_NEAR(output.loss.item<double>(), fixture.Find("loss").item<double>(),
              1e-5 * fixture.Find("loss").item<double>());
  output.loss.backward();
  const auto expect_gradient = [&](const at::Tensor& tensor, const std::string& theirs) {
    const at::Tensor expected = fixture.Find("grad/" + theirs);
    EXPECT_LT((tensor.grad() - expected).norm().item<double>(), 1e-3 * expected.norm().item<double>()) << theirs;
  };
  expect_gradient(map.tokens, "tokens");
  for (const auto& [ours, tensor] : ByName(*objective)) expect_gradient(tensor, layout.name_there(ours));
}

Drloc WithLoss(Drloc::Loss loss, bool signed_distances = false, bool normalize = false) {
  Drloc config;
  config.set_loss(loss);
  config.set_signed_distances(signed_distances);
  config.set_normalize(normalize);
  return config;
}

TEST(DrlocParityTest, AbsoluteError) { ExpectParity("l1", WithLoss(Drloc::L1)); }
TEST(DrlocParityTest, AbsoluteErrorOfSignedDistances) { ExpectParity("l1_signed", WithLoss(Drloc::L1, true)); }
TEST(DrlocParityTest, AbsoluteErrorOfNormalizedDistances) {
  ExpectParity("l1_normalized", WithLoss(Drloc::L1, false, true));
}
TEST(DrlocParityTest, CrossEntropy) { ExpectParity("ce", WithLoss(Drloc::CE)); }
TEST(DrlocParityTest, CrossEntropyOfSignedDistances) { ExpectParity("ce_signed", WithLoss(Drloc::CE, true)); }
TEST(DrlocParityTest, CycleBackRegression) { ExpectParity("cbr", WithLoss(Drloc::CBR)); }

TEST(DrlocTest, NamesOfAListOfHeads) {
  const auto objective = Make(4, {2, 2}, WithLoss(Drloc::CE));
  EXPECT_THAT(NamesThere(*objective, objective->Layouts().at(1)),
              ElementsAre("drloc.0.layers.0.weight", "drloc.0.layers.0.bias", "drloc.0.layers.2.weight",
                          "drloc.0.layers.2.bias", "drloc.0.layers.4.weight", "drloc.0.layers.4.bias",
                          "drloc.0.unshared.0.weight", "drloc.0.unshared.0.bias", "drloc.0.unshared.1.weight",
                          "drloc.0.unshared.1.bias"));
}

// ---- What the authors' code can't: grids that are no squares, masked tokens -----------------------------------------

// A head that says the same of every pair, so that loss and accuracy follow from the drawn cells alone.
void ExpectDistances(const Drloc& config, const TokenMap& map) {
  const auto objective = Make(8, map.grid, config);
  const bool is_l1 = config.loss() == Drloc::L1;
  {
    c10::NoGradGuard no_grad;
    for (const auto& [name, tensor] : ByName(*objective)) {
      at::Tensor(tensor).zero_();
      if (name.starts_with("head") && name.ends_with("bias")) at::Tensor(tensor).normal_();
    }
    if (is_l1) ByName(*objective)["head.bias"].copy_(at::tensor({1.3, 0.8}));
  }
  at::manual_seed(5);
  const int64_t batch = map.tokens.size(0), tokens = map.PatchTokens().size(1);
  const at::Tensor first = at::randint(tokens, {batch, config.pairs_per_image()}, at::kLong);
  const at::Tensor second = at::randint(tokens, {batch, config.pairs_per_image()}, at::kLong);
  const auto weights = ByName(*objective);
  double sum = 0;
  int found = 0;
  const auto cell = [&](int64_t b, const at::Tensor& token) {
    const int64_t t = token.item<int64_t>();
    return map.kept.defined() ? map.kept[b][t].item<int64_t>() : t;
  };
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t p = 0; p < config.pairs_per_image(); ++p) {
      const int64_t i = cell(b, first[b][p]), j = cell(b, second[b][p]);
      int64_t rows = i / map.grid.width - j / map.grid.width, columns = i % map.grid.width - j % map.grid.width;
      if (config.signed_distances()) {
        rows += map.grid.height - 1;
        columns += map.grid.width - 1;
      } else {
        rows = std::abs(rows);
        columns = std::abs(columns);
      }
      if (is_l1) {
        const double row = weights.at("head.bias")[0].item<double>(),
                     column = weights.at("head.bias")[1].item<double>();
        sum += (std::abs(row - rows) + std::abs(column - columns)) / 2;
        found += std::lround(row) == rows && std::lround(column) == columns;
      } else {
        const at::Tensor of_rows = weights.at("head_rows.bias"), of_columns = weights.at("head_columns.bias");
        sum -= (at::log_softmax(of_rows, 0)[rows] + at::log_softmax(of_columns, 0)[columns]).item<double>();
        found += of_rows.argmax().item<int64_t>() == rows && of_columns.argmax().item<int64_t>() == columns;
      }
    }
  }
  at::manual_seed(5);
  const ObjectiveOutput output = objective->Forward({map});
  const int64_t count = batch * config.pairs_per_image();
  EXPECT_NEAR(output.loss.item<double>(), sum / count, 1e-4);
  EXPECT_NEAR(output.metrics.Means()["loss"], sum / count, 1e-4);
  EXPECT_NEAR(output.metrics.Means()["accuracy"], 100.0 * found / count, 1e-4);
  EXPECT_GT(found, 0);
}

TEST(DrlocTest, MeasuresRowsAndColumnsOfAnyGrid) {
  at::manual_seed(1);
  const TokenMap map{.tokens = at::randn({2, 1 + 15, 8}), .prefix_tokens = 1, .grid = {3, 5}};
  for (const Drloc::Loss loss : {Drloc::L1, Drloc::CE}) {
    for (const bool is_signed : {false, true}) {
      Drloc config = WithLoss(loss, is_signed);
      config.set_pairs_per_image(200);
      ExpectDistances(config, map);
    }
  }
}

TEST(DrlocTest, VisibleTokensKeepTheirCells) {
  at::manual_seed(2);
  const at::Tensor kept = at::stack({at::randperm(15).narrow(0, 0, 6), at::randperm(15).narrow(0, 0, 6)});
  const TokenMap map{.tokens = at::randn({2, 6, 8}), .grid = {3, 5}, .kept = kept};
  Drloc config = WithLoss(Drloc::CE, true);
  config.set_pairs_per_image(200);
  ExpectDistances(config, map);
}

TEST(DrlocTest, HasTheAuthorsSizes) {
  // Swin-T's head of one scale, by the sizes in their code: 1536 → 512 → 512 → 2.
  EXPECT_EQ(Make(768, {7, 7}, WithLoss(Drloc::L1))->ParameterCount(), 1536 * 512 + 512 + 512 * 512 + 512 + 512 * 2 + 2);
}

TEST(DrlocTest, BadConfigsAreErrors) {
  Drloc config = WithLoss(Drloc::CE, false, true);
  config.set_pairs_per_image(0);
  config.set_hidden_dim(-1);
  EXPECT_THAT(ErrorPaths(Registry<Objective>::Create(config, {.width = 8, .grid = {2, 2}}).status()),
              ElementsAre("pairs_per_image", "normalize", "hidden_dim"));
  Drloc many;
  many.set_pairs_per_image(10'001);
  EXPECT_THAT(ErrorPaths(Registry<Objective>::Create(many, {.width = 8, .grid = {2, 2}}).status()),
              ElementsAre("pairs_per_image"));
}

}  // namespace
}  // namespace graticule
