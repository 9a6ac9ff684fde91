#include "labels/relative/relative.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/bincount.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/cross_entropy_loss.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/randperm.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/tensor.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/testing.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

RelativePositionalLabel WithPairs(int pairs_per_image) {
  RelativePositionalLabel config;
  config.set_pairs_per_image(pairs_per_image);
  return config;
}

std::unique_ptr<Objective> Make(int64_t width, Size2d grid, const RelativePositionalLabel& config = {}) {
  return BuildPlugin<Objective>(config, {.width = width, .grid = grid});
}

// The label of the pair of cells (i, j), by the paper's formula.
int64_t Label(Size2d grid, int64_t i, int64_t j) {
  const int64_t rows = i / grid.width - j / grid.width + grid.height - 1;
  const int64_t columns = i % grid.width - j % grid.width + grid.width - 1;
  return rows * (2 * grid.width - 1) + columns;
}

// The plain form: every pair's tokens concatenated, layer after layer. Logits [B,N²,classes].
at::Tensor PlainLogits(const Module& objective, const at::Tensor& patches) {
  const int64_t tokens = patches.size(1), half = patches.size(2) / 2;
  std::vector<at::Tensor> pairs;
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t j = 0; j < tokens; ++j) {
      pairs.push_back(
          at::cat({patches.select(1, i).narrow(1, 0, half), patches.select(1, j).narrow(1, half, half)}, 1));
    }
  }
  const auto weights = ByName(objective);
  const auto layer = [&](const std::string& name, const at::Tensor& x) {
    return at::linear(x, weights.at(name + ".weight"), weights.at(name + ".bias"));
  };
  return layer("head", layer("fc2", at::gelu(layer("fc1", at::stack(pairs, 1)))));
}

// [B,N²]; cells [B,N].
at::Tensor PlainLabels(Size2d grid, const at::Tensor& cells) {
  std::vector<int64_t> labels;
  for (int64_t b = 0; b < cells.size(0); ++b) {
    for (int64_t i = 0; i < cells.size(1); ++i) {
      for (int64_t j = 0; j < cells.size(1); ++j) {
        labels.push_back(Label(grid, cells[b][i].item<int64_t>(), cells[b][j].item<int64_t>()));
      }
    }
  }
  return at::tensor(labels, at::kLong).view({cells.size(0), -1});
}

at::Tensor AllCells(int64_t batch, Size2d grid) { return at::arange(grid.area(), at::kLong).expand({batch, -1}); }

// Loss, accuracy and gradients of the objective are those of the plain form over all pairs.
void ExpectPlain(Objective& objective, TokenMap map, double tolerance) {
  map.tokens.set_requires_grad(true);
  const at::Tensor cells = map.kept.defined() ? map.kept : AllCells(map.tokens.size(0), map.grid);
  const at::Tensor logits = PlainLogits(objective, map.PatchTokens()).flatten(0, 1);
  const at::Tensor labels = PlainLabels(map.grid, cells).flatten();
  const at::Tensor loss = at::cross_entropy_loss(logits, labels);
  (loss * 3).backward();
  std::map<std::string, at::Tensor> expected;
  auto parameters = ByName(objective);
  parameters["tokens"] = map.tokens;
  for (auto& [name, tensor] : parameters) {
    expected[name] = tensor.grad().clone();
    tensor.mutable_grad().reset();
  }

  const ObjectiveOutput output = objective.Forward({map});
  EXPECT_NEAR(output.loss.item<double>(), loss.item<double>(), 1e-5 * loss.item<double>());
  EXPECT_NEAR(output.metrics.Means()["loss"], loss.item<double>(), 1e-5 * loss.item<double>());
  EXPECT_NEAR(output.metrics.Means()["accuracy"],
              logits.argmax(1).eq(labels).to(at::kDouble).mean().item<double>() * 100, 1e-4);
  (output.loss * 3).backward();
  for (auto& [name, tensor] : parameters) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_LT((tensor.grad() - expected[name]).norm().item<double>(), tolerance * expected[name].norm().item<double>())
        << name;
  }
}

TEST(RelativePositionalLabelTest, HeadOnSwinTHasThePublishedSize) {
  EXPECT_EQ(Make(768, {7, 7})->ParameterCount(), 508201);
}

TEST(RelativePositionalLabelTest, CountsPairsAsThePaperDoes) {
  // The centre of 3×3 against all.
  const at::Tensor labels = PlainLabels({3, 3}, AllCells(1, {3, 3})).view({9, 9});
  EXPECT_TRUE(at::equal(labels[4], at::tensor({18, 17, 16, 13, 12, 11, 8, 7, 6}, at::kLong)));
  EXPECT_EQ(Make(8, {3, 3})->Logits({{.tokens = at::randn({1, 9, 8}), .grid = {3, 3}}}).size(2), 25);
}

// The paper's prior: what a head that knows nothing but the labels' frequencies reaches, and its best guess.
TEST(RelativePositionalLabelTest, LabelsAreAsFrequentAsThePaperSays) {
  for (const auto& [grid, classes, entropy] :
       {std::tuple(Size2d{7, 7}, 169, 4.858), std::tuple(Size2d{14, 14}, 729, 6.269)}) {
    const auto objective = Make(4, grid, WithPairs(0));
    const at::Tensor counts = at::bincount(PlainLabels(grid, AllCells(1, grid)).flatten(), {}, classes);
    ASSERT_EQ(counts.size(0), classes);
    const at::Tensor prior = counts.to(at::kDouble) / static_cast<double>(grid.area() * grid.area());
    c10::NoGradGuard no_grad;
    for (auto& [name, tensor] : ByName(*objective)) at::Tensor(tensor).zero_();
    ByName(*objective)["head.bias"].copy_(prior.log());
    const ObjectiveOutput output = objective->Forward({{.tokens = at::randn({2, grid.area(), 4}), .grid = grid}});
    EXPECT_NEAR(output.loss.item<double>(), entropy, 1e-3);
    EXPECT_NEAR(output.metrics.Means()["accuracy"], 100.0 / grid.area(), 1e-3);
    EXPECT_EQ(counts.argmax().item<int64_t>(), (classes - 1) / 2);
  }
}

TEST(RelativePositionalLabelTest, FreshHeadsStartAtTheUniformCrossEntropy) {
  for (const auto& [grid, expected] : {std::pair(Size2d{7, 7}, 5.130), std::pair(Size2d{14, 14}, 6.592)}) {
    const auto objective = Make(192, grid);
    const TokenMap map{.tokens = at::randn({4, grid.area(), 192}), .grid = grid};
    EXPECT_NEAR(objective->Forward({map}).loss.item<double>(), expected, 0.01 * expected);
  }
}

TEST(RelativePositionalLabelTest, IsThePlainFormOverAllPairs) {
  for (const Size2d grid : {Size2d{1, 1}, Size2d{2, 3}, Size2d{4, 2}}) {
    SCOPED_TRACE(grid.area());
    const auto objective = Make(8, grid, WithPairs(0));
    Randomize(*objective, 0.5);
    const TokenMap map{.tokens = at::randn({3, 2 + grid.area(), 8}), .prefix_tokens = 2, .grid = grid};
    const at::Tensor plain = PlainLogits(*objective, map.PatchTokens());
    EXPECT_LT((objective->Logits({map}) - plain).abs().max().item<double>(), 1e-5);
    if (grid.area() > 1) ExpectPlain(*objective, map, 1e-4);
  }
}

// Images that are more than one at a time on the CPU, and more than are worked on together.
TEST(RelativePositionalLabelTest, IsThePlainFormForManyImages) {
  const Size2d grid{7, 7};
  const auto objective = Make(64, grid);
  Randomize(*objective, 0.5);
  ExpectPlain(*objective, {.tokens = at::randn({17, 49, 64}), .grid = grid}, 1e-3);
}

TEST(RelativePositionalLabelTest, VisibleTokensKeepTheirCells) {
  const Size2d grid{3, 4};
  const auto objective = Make(8, grid);
  Randomize(*objective, 0.5);
  const at::Tensor kept = at::stack({at::randperm(12).narrow(0, 0, 5), at::randperm(12).narrow(0, 0, 5)});
  const TokenMap map{.tokens = at::randn({2, 6, 8}), .prefix_tokens = 1, .grid = grid, .kept = kept};
  EXPECT_EQ(objective->Logits({map}).sizes(), (std::vector<int64_t>{2, 25, 35}));
  ExpectPlain(*objective, map, 1e-4);
}

// The mean over many draws is the mean over all pairs: of the loss, and of the gradients.
TEST(RelativePositionalLabelTest, SamplingIsUnbiased) {
  // LibTorch's generator begins anywhere, and how far the mean is off depends on what is drawn.
  at::manual_seed(0);
  const Size2d grid{3, 4};
  const auto all = Make(8, grid, WithPairs(0)), sampled = Make(8, grid, WithPairs(30));
  Randomize(*all, 0.5);
  {
    c10::NoGradGuard no_grad;
    for (auto& [name, tensor] : ByName(*sampled)) at::Tensor(tensor).copy_(ByName(*all)[name]);
  }
  TokenMap map{.tokens = at::randn({2, 12, 8}).requires_grad_(true), .grid = grid};
  const ObjectiveOutput expected = all->Forward({map});
  expected.loss.backward();
  const at::Tensor gradient = map.tokens.grad().clone();
  map.tokens.mutable_grad().reset();

  constexpr int kDraws = 2000;
  at::manual_seed(1);
  double sum = 0, squares = 0, accuracy = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    const ObjectiveOutput output = sampled->Forward({map});
    output.loss.backward();
    const double loss = output.loss.item<double>();
    sum += loss;
    squares += loss * loss;
    accuracy += output.metrics.Means()["accuracy"];
  }
  const double mean = sum / kDraws, deviation = std::sqrt((squares / kDraws - mean * mean) / kDraws);
  EXPECT_GT(deviation, 0) << "every draw is the same";
  EXPECT_LT(std::abs(mean - expected.loss.item<double>()), 4 * deviation);
  EXPECT_NEAR(accuracy / kDraws, expected.metrics.Means()["accuracy"], 0.5);
  EXPECT_LT((map.tokens.grad() / kDraws - gradient).norm().item<double>(), 0.03 * gradient.norm().item<double>());
  const auto expected_parameters = ByName(*all);
  for (const auto& [name, tensor] : ByName(*sampled)) {
    const at::Tensor difference = tensor.grad() / kDraws - expected_parameters.at(name).grad();
    EXPECT_LT(difference.norm().item<double>(), 0.03 * expected_parameters.at(name).grad().norm().item<double>())
        << name;
  }
}

TEST(RelativePositionalLabelTest, TheSeedSettlesTheSample) {
  const Size2d grid{14, 14};
  const auto objective = Make(16, grid);
  Randomize(*objective, 0.5);
  const TokenMap map{.tokens = at::randn({2, 196, 16}), .grid = grid};
  const auto loss = [&](uint64_t seed) {
    at::manual_seed(seed);
    return objective->Forward({map}).loss;
  };
  EXPECT_TRUE(at::equal(loss(3), loss(3)));
  EXPECT_FALSE(at::equal(loss(3), loss(4)));
}

TEST(RelativePositionalLabelTest, SmallGridsAreNotSampled) {
  const Size2d grid{7, 7};
  const auto by_default = Make(16, grid), all = Make(16, grid, WithPairs(0));
  const TokenMap map{.tokens = at::randn({2, 49, 16}), .grid = grid};
  {
    c10::NoGradGuard no_grad;
    for (auto& [name, tensor] : ByName(*by_default)) at::Tensor(tensor).copy_(ByName(*all)[name]);
  }
  EXPECT_TRUE(at::equal(by_default->Forward({map}).loss, all->Forward({map}).loss));
}

// The state dict of SwinTransformer in the paper's code.
TEST(RelativePositionalLabelTest, KnowsItsNamesInThePapersCode) {
  const auto objective = Make(8, {2, 2});
  const std::vector<WeightLayout> layouts = objective->Layouts();
  ASSERT_EQ(layouts.size(), 1);
  EXPECT_THAT(NamesThere(*objective, layouts[0]),
              ElementsAre("To2D.fc1.weight", "To2D.fc1.bias", "To2D.fc2.weight", "To2D.fc2.bias",
                          "head_coordinate.weight", "head_coordinate.bias"));
}

TEST(RelativePositionalLabelTest, BadConfigsAreErrors) {
  const auto odd = Registry<Objective>::Create(RelativePositionalLabel(), {.width = 7, .grid = {2, 2}});
  EXPECT_EQ(odd.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(odd.status().message()), HasSubstr("must be even; the backbone's is 7"));
  RelativePositionalLabel config = WithPairs(-1);
  config.set_hidden_dim(-1);
  config.set_embed_dim(2'000'000'000);
  EXPECT_THAT(ErrorPaths(Registry<Objective>::Create(config, {.width = 8, .grid = {2, 2}}).status()),
              ElementsAre("hidden_dim", "embed_dim", "pairs_per_image"));
  EXPECT_THAT(ErrorPaths(Registry<Objective>::Create(WithPairs(100'001), {.width = 8, .grid = {2, 2}}).status()),
              ElementsAre("pairs_per_image"));
}

}  // namespace
}  // namespace graticule
