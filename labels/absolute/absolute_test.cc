#include "labels/absolute/absolute.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "ATen/ops/cat.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/testing.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Objective> Make(int64_t width, Size2d grid, const AbsolutePositionalLabel& config = {}) {
  return BuildPlugin<Objective>(config, {.width = width, .grid = grid});
}

TEST(AbsolutePositionalLabelTest, HeadOnViTBHasThePublishedSize) {
  EXPECT_EQ(Make(768, {14, 14})->ParameterCount(), 259588);
}

TEST(AbsolutePositionalLabelTest, FreshHeadsStartAtTheUniformCrossEntropy) {
  for (const Size2d grid : {Size2d{14, 14}, Size2d{7, 7}, Size2d{3, 5}}) {
    const auto objective = Make(192, grid);
    const TokenMap map{.tokens = at::randn({4, grid.area(), 192}), .grid = grid};
    const ObjectiveOutput output = objective->Forward({map});
    EXPECT_NEAR(output.loss.item<double>(), std::log(grid.area()), 0.02 * std::log(grid.area()));
  }
}

// The formula of the paper, token by token.
TEST(AbsolutePositionalLabelTest, LossIsTheMeanCrossEntropyOverBatchAndPatches) {
  const Size2d grid{2, 3};
  const auto objective = Make(8, grid);
  Randomize(*objective, 1);
  const at::Tensor tokens = at::randn({3, 6, 8});

  const auto weights = ByName(*objective);
  double sum = 0;
  int found = 0;
  for (int b = 0; b < 3; ++b) {
    for (int i = 0; i < 6; ++i) {
      const at::Tensor half = tokens[b][i].slice(0, 0, 4);
      const at::Tensor x = weights.at("fc1.weight").mv(half).add(weights.at("fc1.bias"));
      const at::Tensor gelu = x.mul(0.5).mul(x.div(std::sqrt(2.0)).erf().add(1));
      const at::Tensor p = weights.at("fc2.weight").mv(gelu).add(weights.at("fc2.bias"));
      const at::Tensor logits = weights.at("head.weight").mv(p).add(weights.at("head.bias"));
      sum -= at::log_softmax(logits, 0)[i].item<double>();
      found += logits.argmax().item<int64_t>() == i;
    }
  }
  const ObjectiveOutput output = objective->Forward({{.tokens = tokens, .grid = grid}});
  EXPECT_NEAR(output.loss.item<double>(), sum / 18, 1e-4);
  EXPECT_NEAR(output.metrics.Means()["accuracy"], 100.0 * found / 18, 1e-4);
  EXPECT_NEAR(output.metrics.Means()["loss"], sum / 18, 1e-4);
}

TEST(AbsolutePositionalLabelTest, PrefixTokensTakeNoPart) {
  const Size2d grid{2, 2};
  const auto objective = Make(8, grid);
  const at::Tensor patches = at::randn({2, 4, 8});
  const at::Tensor with_class = at::cat({at::randn({2, 1, 8}), patches}, 1);
  const double expected = objective->Forward({{.tokens = patches, .grid = grid}}).loss.item<double>();
  EXPECT_DOUBLE_EQ(objective->Forward({{.tokens = with_class, .prefix_tokens = 1, .grid = grid}}).loss.item<double>(),
                   expected);
}

// Visible tokens carry the label of their own cell: shuffling tokens with their cells changes nothing.
TEST(AbsolutePositionalLabelTest, MaskedTokensKeepTheirCells) {
  const Size2d grid{2, 2};
  const auto objective = Make(8, grid);
  Randomize(*objective, 1);
  const at::Tensor tokens = at::randn({1, 4, 8});
  const double whole = objective->Forward({{.tokens = tokens, .grid = grid}}).loss.item<double>();
  const at::Tensor order = at::tensor({2, 0, 3, 1}, at::kLong);
  TokenMap shuffled{.tokens = tokens.index_select(1, order), .grid = grid, .kept = order.unsqueeze(0)};
  EXPECT_NEAR(objective->Forward({shuffled}).loss.item<double>(), whole, 1e-5);
  TokenMap one{.tokens = tokens.narrow(1, 3, 1), .grid = grid, .kept = at::tensor({3}, at::kLong).view({1, 1})};
  EXPECT_TRUE(std::isfinite(objective->Forward({one}).loss.item<double>()));
}

TEST(AbsolutePositionalLabelTest, AHeadThatKnowsTheCellsIsRight) {
  // Token i is 10·e_i in the first half, the layers are identities as far as their shapes allow.
  const Size2d grid{2, 2};
  AbsolutePositionalLabel config;
  config.set_hidden_dim(4);
  config.set_embed_dim(4);
  const auto objective = Make(8, grid, config);
  for (const NamedParameter& parameter : objective->Parameters()) {
    at::Tensor data = parameter.tensor.detach();
    data.zero_();
    if (data.dim() == 2) data.fill_diagonal_(3);
  }
  at::Tensor tokens = at::randn({2, 4, 8});
  tokens.narrow(2, 0, 4).zero_();
  for (int i = 0; i < 4; ++i) tokens.select(1, i).select(1, i).fill_(10);
  const ObjectiveOutput output = objective->Forward({{.tokens = tokens, .grid = grid}});
  EXPECT_EQ(output.metrics.Means()["accuracy"], 100);
  EXPECT_LT(output.loss.item<double>(), 1e-4);

  const at::Tensor cells = at::tensor({0, 1, 2, 3}, at::kLong);
  EXPECT_TRUE(at::equal(objective->PredictedCells({{.tokens = tokens, .grid = grid}}), cells.expand({2, 4})));
  // Visible tokens say where they come from, not where they stand.
  const at::Tensor kept = at::tensor({3, 0}, at::kLong);
  const TokenMap visible{
      .tokens = tokens.index_select(1, kept), .grid = grid, .kept = kept.unsqueeze(0).expand({2, -1})};
  EXPECT_TRUE(at::equal(objective->PredictedCells({visible}), visible.kept));
}

// The state dict of VisionTransformer in the paper's ViT_B.py.
TEST(AbsolutePositionalLabelTest, KnowsItsNamesInThePapersCode) {
  const auto objective = Make(8, {2, 2});
  const std::vector<WeightLayout> layouts = objective->Layouts();
  ASSERT_EQ(layouts.size(), 1);
  EXPECT_THAT(NamesThere(*objective, layouts[0]),
              testing::ElementsAre("To2D.fc1.weight", "To2D.fc1.bias", "To2D.fc2.weight", "To2D.fc2.bias",
                                   "head_coordinate.weight", "head_coordinate.bias"));
}

TEST(AbsolutePositionalLabelTest, BadConfigsAreErrors) {
  const auto odd = Registry<Objective>::Create(AbsolutePositionalLabel(), {.width = 6, .grid = {2, 2}});
  EXPECT_EQ(odd.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(odd.status().message()), HasSubstr("multiple of 4; the backbone's is 6"));
  AbsolutePositionalLabel config;
  config.set_hidden_dim(-1);
  config.set_embed_dim(-2);
  EXPECT_EQ(ErrorPaths(Registry<Objective>::Create(config, {.width = 8, .grid = {2, 2}}).status()),
            (std::vector<std::string>{"hidden_dim", "embed_dim"}));
}

}  // namespace
}  // namespace graticule
