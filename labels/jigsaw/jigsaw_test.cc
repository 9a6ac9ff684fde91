#include "labels/jigsaw/jigsaw.h"

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/relu.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/testing.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kWidth = 8;

std::unique_ptr<Objective> Make(Size2d grid, const Jigsaw& config = {}) {
  return BuildPlugin<Objective>(config, {.width = kWidth, .grid = grid, .can_select = true});
}

// A task whose second pass gives the wanted rows of a table of tokens, behind a class token, and notes what was asked.
struct FakePass {
  at::Tensor table;  // [N,D]
  PatchSelection asked;

  ObjectiveInput Input(int64_t batch, Size2d grid) {
    ObjectiveInput input;
    input.tokens = {.tokens = at::randn({batch, 1 + grid.area(), kWidth}), .prefix_tokens = 1, .grid = grid};
    input.pass_again = [this, batch, grid](const PatchSelection& selection) {
      asked = selection;
      const at::Tensor patches = table.index_select(0, selection.kept.flatten()).view({batch, -1, kWidth});
      return TokenMap{.tokens = at::cat({at::randn({batch, 1, kWidth}), patches}, 1),
                      .prefix_tokens = 1,
                      .grid = grid,
                      .kept = selection.kept};
    };
    return input;
  }
};

TEST(JigsawTest, ASecondPassTakesHalfOfThePatchesShuffledWithoutPosition) {
  const Size2d grid{3, 5};
  const auto objective = Make(grid);
  FakePass pass{.table = at::randn({15, kWidth})};
  objective->Forward(pass.Input(4, grid));
  EXPECT_FALSE(pass.asked.position);
  const at::Tensor kept = pass.asked.kept;
  ASSERT_EQ(kept.sizes(), (std::vector<int64_t>{4, 7}));
  const at::Tensor sorted = std::get<0>(kept.sort());
  EXPECT_TRUE((sorted.narrow(1, 1, 6) > sorted.narrow(1, 0, 6)).all().item<bool>()) << "a patch comes twice";
  EXPECT_TRUE(((kept >= 0).logical_and(kept < 15)).all().item<bool>());
  EXPECT_FALSE(at::equal(kept, sorted)) << "not shuffled";
  EXPECT_FALSE(at::equal(kept[0], kept[1])) << "all images lose the same patches";
}

TEST(JigsawTest, TheMaskRatioSaysHowManyPatchesAreLeftOut) {
  for (const auto& [ratio, count] : {std::pair(0.0, 16), std::pair(0.25, 12), std::pair(0.99, 1)}) {
    Jigsaw config;
    config.set_mask_ratio(ratio);
    FakePass pass{.table = at::randn({16, kWidth})};
    Make({4, 4}, config)->Forward(pass.Input(2, {4, 4}));
    EXPECT_EQ(pass.asked.kept.size(1), count) << ratio;
  }
}

TEST(JigsawTest, LossIsTheMeanCrossEntropyOfTheTokensCells) {
  const Size2d grid{2, 4};
  const auto objective = Make(grid);
  FakePass pass{.table = at::randn({8, kWidth}) * 3};
  const ObjectiveOutput output = objective->Forward(pass.Input(3, grid));

  const auto weights = ByName(*objective);
  double sum = 0;
  int found = 0;
  for (int64_t b = 0; b < 3; ++b) {
    for (int64_t v = 0; v < 4; ++v) {
      const int64_t cell = pass.asked.kept[b][v].item<int64_t>();
      at::Tensor x = pass.table[cell];
      for (const char* layer : {"fc1", "fc2"}) {
        x = at::relu(
            at::linear(x, weights.at(std::string(layer) + ".weight"), weights.at(std::string(layer) + ".bias")));
      }
      x = at::linear(x, weights.at("head.weight"), weights.at("head.bias"));
      sum -= at::log_softmax(x, 0)[cell].item<double>();
      found += x.argmax().item<int64_t>() == cell;
    }
  }
  EXPECT_NEAR(output.loss.item<double>(), sum / 12, 1e-5);
  EXPECT_NEAR(output.metrics.Means()["loss"], sum / 12, 1e-5);
  EXPECT_NEAR(output.metrics.Means()["accuracy"], 100.0 * found / 12, 1e-4);
}

TEST(JigsawTest, LogitsAreOfAllPatchesInOrder) {
  const Size2d grid{2, 3};
  const auto objective = Make(grid);
  FakePass pass{.table = at::randn({6, kWidth})};
  EXPECT_EQ(objective->Logits(pass.Input(2, grid)).sizes(), (std::vector<int64_t>{2, 6, 6}));
  EXPECT_FALSE(pass.asked.position);
  EXPECT_TRUE(at::equal(pass.asked.kept, at::arange(6).expand({2, 6})));
}

TEST(JigsawTest, PredictedCellsAreThoseOfTheGreatestLogits) {
  const Size2d grid{2, 3};
  const auto objective = Make(grid);
  FakePass pass{.table = at::randn({6, kWidth})};
  const ObjectiveInput input = pass.Input(2, grid);
  const at::Tensor logits = objective->Logits(input), cells = objective->PredictedCells(input);
  ASSERT_EQ(cells.sizes(), (std::vector<int64_t>{2, 6}));
  EXPECT_TRUE(at::equal(logits.gather(2, cells.unsqueeze(2)).squeeze(2), logits.amax(2)));
}

TEST(JigsawTest, WeightsStartAsPyTorchMakesThem) {
  const auto objective = BuildPlugin<Objective>(Jigsaw(), {.width = 100, .grid = {10, 10}, .can_select = true});
  for (const auto& [name, tensor] : ByName(*objective)) {
    EXPECT_NEAR(tensor.abs().max().item<double>(), 0.1, 0.01) << name;
    EXPECT_NEAR(tensor.abs().mean().item<double>(), 0.05, 0.01) << name;
  }
}

TEST(JigsawTest, KnowsItsNamesInTheAuthorsCode) {
  const auto objective = Make({2, 2});
  EXPECT_THAT(NamesThere(*objective, objective->Layouts().at(0)),
              ElementsAre("jigsaw.0.weight", "jigsaw.0.bias", "jigsaw.2.weight", "jigsaw.2.bias", "jigsaw.4.weight",
                          "jigsaw.4.bias"));
}

TEST(JigsawTest, BackbonesThatCannotSelectPatchesAreRefused) {
  const auto objective = Registry<Objective>::Create(Jigsaw(), {.width = kWidth, .grid = {2, 2}});
  EXPECT_EQ(objective.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(objective.status().message()), HasSubstr("can't run on a selection"));
}

TEST(JigsawTest, BadMaskRatiosAreErrors) {
  for (const double ratio : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    Jigsaw config;
    config.set_mask_ratio(ratio);
    const auto objective = Registry<Objective>::Create(config, {.width = kWidth, .grid = {2, 2}, .can_select = true});
    EXPECT_THAT(ErrorPaths(objective.status()), ElementsAre("mask_ratio")) << ratio;
  }
}

}  // namespace
}  // namespace graticule
