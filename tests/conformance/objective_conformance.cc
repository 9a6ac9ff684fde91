#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/randperm.h"
#include "ATen/ops/stack.h"
#include "labels/objective.h"
#include "tests/conformance/conformance.h"
#include "trainer/device.h"

namespace graticule {
namespace {

constexpr int64_t kWidth = 16;

class ObjectiveConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  std::unique_ptr<Objective> Make(Size2d grid, uint64_t seed = 1) {
    at::manual_seed(seed);
    auto objective =
        Registry<Objective>::Create(Example(GetParam()), {.width = kWidth, .grid = grid, .can_select = true});
    EXPECT_TRUE(objective.ok()) << objective.status();
    return *std::move(objective);
  }
};

// Passes again as a model of one linear layer does: what comes out depends on the tokens of the first pass, and each
// patch token on itself alone. Of a masked first pass nothing is known of the other patches, which are random.
ObjectiveInput Input(const TokenMap& map) {
  const int64_t batch = map.tokens.size(0);
  const at::Tensor patches = map.kept.defined() ? at::randn({batch, map.grid.area(), kWidth}) : map.PatchTokens();
  const auto pass_again = [map, patches](const PatchSelection& selection) {
    const at::Tensor chosen = patches.gather(1, selection.kept.unsqueeze(2).expand({-1, -1, kWidth})).mul(2);
    TokenMap again = map;
    again.tokens = at::cat({map.tokens.narrow(1, 0, map.prefix_tokens), chosen}, 1);
    again.kept = selection.kept;
    return again;
  };
  return {.tokens = map, .pass_again = pass_again};
}

TEST_P(ObjectiveConformance, LossIsAFiniteNumberOnAnyGrid) {
  for (const Size2d grid : {Size2d{1, 1}, Size2d{2, 2}, Size2d{3, 5}, Size2d{14, 14}}) {
    const auto objective = Make(grid);
    for (const int64_t batch : {1, 3}) {
      for (const int64_t prefix : {0, 1, 2}) {
        const TokenMap map{
            .tokens = at::randn({batch, prefix + grid.area(), kWidth}), .prefix_tokens = prefix, .grid = grid};
        const ObjectiveOutput output = objective->Forward(Input(map));
        EXPECT_EQ(output.loss.dim(), 0);
        EXPECT_TRUE(output.loss.isfinite().item<bool>());
        const auto metrics = output.metrics.Means();
        EXPECT_TRUE(metrics.count("loss"));
        for (const auto& [name, value] : metrics) EXPECT_TRUE(std::isfinite(value)) << name;
      }
    }
  }
}

TEST_P(ObjectiveConformance, EveryParameterAndEveryPatchGetsAFiniteGradient) {
  const Size2d grid{3, 4};
  const auto objective = Make(grid);
  TokenMap map{.tokens = at::randn({2, 1 + grid.area(), kWidth}), .prefix_tokens = 1, .grid = grid};
  map.tokens.set_requires_grad(true);
  objective->Forward(Input(map)).loss.backward();
  ExpectFiniteGradients(*objective);
  EXPECT_TRUE(map.tokens.grad().isfinite().all().item<bool>());
  EXPECT_EQ(map.tokens.grad().select(1, 0).abs().sum().item<double>(), 0) << "the class token takes part";
  EXPECT_GT(map.tokens.grad().abs().sum().item<double>(), 0);
}

TEST_P(ObjectiveConformance, ReadsVisibleTokensUnderMasking) {
  const Size2d grid{3, 4};
  const auto objective = Make(grid);
  const at::Tensor kept = at::stack({at::randperm(12).narrow(0, 0, 5), at::randperm(12).narrow(0, 0, 5)});
  const TokenMap map{.tokens = at::randn({2, 5, kWidth}), .grid = grid, .kept = kept};
  EXPECT_TRUE(objective->Forward(Input(map)).loss.isfinite().item<bool>());
}

TEST_P(ObjectiveConformance, ASeedSettlesWeightsAndLoss) {
  const Size2d grid{3, 3};
  const auto a = Make(grid, 5), b = Make(grid, 5);
  const ObjectiveInput input = Input({.tokens = at::randn({2, 9, kWidth}), .grid = grid});
  at::manual_seed(1);
  const at::Tensor first = a->Forward(input).loss;
  at::manual_seed(1);
  EXPECT_TRUE(at::equal(first, b->Forward(input).loss));
}

TEST_P(ObjectiveConformance, WeightsGoThroughAFile) {
  const Size2d grid{3, 3};
  const auto a = Make(grid, 1), b = Make(grid, 2);
  Restore(Save(*a), *b);
  const ObjectiveInput input = Input({.tokens = at::randn({2, 9, kWidth}), .grid = grid});
  at::manual_seed(1);
  const at::Tensor first = a->Forward(input).loss;
  at::manual_seed(1);
  EXPECT_TRUE(at::equal(first, b->Forward(input).loss));
}

TEST_P(ObjectiveConformance, LogitsAreFiniteAndNothingRandom) {
  const auto objective = Make({3, 4});
  const ObjectiveInput input = Input({.tokens = at::randn({2, 1 + 12, kWidth}), .prefix_tokens = 1, .grid = {3, 4}});
  at::manual_seed(1);
  const at::Tensor logits = objective->Logits(input);
  EXPECT_EQ(logits.size(0), 2);
  EXPECT_TRUE(logits.isfinite().all().item<bool>());
  at::manual_seed(2);
  EXPECT_TRUE(at::equal(logits, objective->Logits(input)));
}

TEST_P(ObjectiveConformance, PredictedCellsAreOfTheGridAndNothingRandom) {
  const auto objective = Make({3, 4});
  const ObjectiveInput input = Input({.tokens = at::randn({2, 1 + 12, kWidth}), .prefix_tokens = 1, .grid = {3, 4}});
  at::manual_seed(1);
  const at::Tensor cells = objective->PredictedCells(input);
  if (!cells.defined()) return;
  EXPECT_EQ(cells.sizes(), (std::vector<int64_t>{2, 12}));
  EXPECT_EQ(cells.scalar_type(), at::kLong);
  EXPECT_TRUE(cells.ge(0).logical_and(cells.lt(12)).all().item<bool>());
  at::manual_seed(2);
  EXPECT_TRUE(at::equal(cells, objective->PredictedCells(input)));
}

// Gradients of random weights and tokens under autocast to bfloat16, which has 8 bits, against those in fp32.
TEST_P(ObjectiveConformance, AutocastComesCloseToSinglePrecision) {
  const auto objective = Make({3, 4});
  const TokenMap map{.tokens = at::randn({4, 12, kWidth}).requires_grad_(true), .grid = {3, 4}};
  const auto run = [&](Trainer::Precision precision) {
    map.tokens.mutable_grad().reset();
    at::manual_seed(1);
    ObjectiveOutput output;
    {
      const AutocastScope autocast(precision, c10::kCPU);
      output = objective->Forward(Input(map));
    }
    EXPECT_EQ(output.loss.scalar_type(), at::kFloat);
    output.loss.backward();
    return std::pair(output.loss.item<double>(), map.tokens.grad().clone());
  };
  for (const NamedParameter& parameter : objective->Parameters()) init::Normal(parameter.tensor, 0.3);
  const auto [loss, gradient] = run(Trainer::FP32);
  const auto [loss_bf16, gradient_bf16] = run(Trainer::BF16);
  EXPECT_NEAR(loss_bf16, loss, 0.02 * loss);
  EXPECT_NE(loss_bf16, loss) << "nothing ran in bfloat16";
  EXPECT_LT(gradient_bf16.sub(gradient).norm().item<double>(), 0.1 * gradient.norm().item<double>());
  ExpectFiniteGradients(*objective);
}

TEST_P(ObjectiveConformance, LayoutsGiveEachParameterANameOfItsOwn) {
  const auto objective = Make({3, 4});
  for (const WeightLayout& layout : objective->Layouts()) {
    std::set<std::string> names;
    for (const NamedParameter& parameter : objective->Parameters()) {
      const std::string name = layout.name_there(parameter.name);
      EXPECT_TRUE(name.empty() || names.insert(name).second) << layout.name << ": " << name;
    }
  }
}

TEST_P(ObjectiveConformance, ABackboneThatCannotSelectPatchesIsFineOrRefused) {
  const auto objective = Registry<Objective>::Create(Example(GetParam()), {.width = kWidth, .grid = {3, 3}});
  if (!objective.ok()) {
    EXPECT_TRUE(IsUserError(objective.status())) << objective.status();
    return;
  }
  EXPECT_TRUE(
      (*objective)->Forward({{.tokens = at::randn({2, 9, kWidth}), .grid = {3, 3}}}).loss.isfinite().item<bool>());
}

TEST_P(ObjectiveConformance, BadConfigsAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    auto objective = Registry<Objective>::Create(config, {.width = kWidth, .grid = {2, 2}, .can_select = true});
    EXPECT_TRUE(objective.ok() || IsUserError(objective.status())) << objective.status();
    if (objective.ok()) (*objective)->Forward(Input({.tokens = at::randn({2, 4, kWidth}), .grid = {2, 2}}));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ObjectiveConformance, testing::ValuesIn(RegisteredPlugins("objective")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ObjectiveConformance);

}  // namespace
}  // namespace graticule
