#include "trainer/optimizers/muon/muon.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linalg_svd.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/optimizers/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Role = TrainedParameter::Role;

const std::vector<std::string> kMatrices = {"tall", "wide", "kernel"};

std::vector<TrainedParameter> Matrices(const OptimizerFixture& fixture) {
  std::vector<TrainedParameter> parameters = fixture.Parameters(kMatrices);
  for (TrainedParameter& parameter : parameters) {
    parameter.role = Role::kMatrix;
    if (parameter.name == "kernel") {
      parameter.tensor = parameter.tensor.detach().view({6, 2, 3, 3}).set_requires_grad(true);
    }
  }
  return parameters;
}

std::map<std::string, Muon> Cases() {
  std::map<std::string, Muon> cases;
  for (const auto& [name, adjustment] :
       {std::pair("original", Muon::ORIGINAL), {"match_rms_adamw", Muon::MATCH_RMS_ADAMW}}) {
    Muon& config = cases[name];
    config.set_adjustment(adjustment);
    config.set_weight_decay(0.2);
    Muon& variant = cases[absl::StrCat(name, ".variant")];
    variant.set_adjustment(adjustment);
    variant.set_weight_decay(0);
    variant.set_nesterov(false);
  }
  return cases;
}

TEST(MuonTest, MatricesStepAsInPyTorch) {
  const OptimizerFixture fixture("muon");
  for (const auto& [name, config] : Cases()) {
    const auto parameters = Matrices(fixture);
    fixture.ExpectCase(name, *BuildPlugin<Optimizer>(config, {parameters}), parameters,
                       {{"momentum_buffer", "momentum_buffer"}});
    // PyTorch computes in bfloat16 on the CPU too: alike within its precision.
    for (const TrainedParameter& parameter : parameters) {
      const at::Tensor expected =
          fixture.contents().Find(absl::StrCat(name, ".bf16.", fixture.steps() - 1, ".", parameter.name));
      ASSERT_TRUE(expected.defined());
      EXPECT_TRUE(at::allclose(parameter.tensor.detach().view_as(expected), expected, 0, 2e-3)) << parameter.name;
    }
  }
}

TEST(MuonTest, TheRestStepsByAdamW) {
  const OptimizerFixture fixture("muon");
  Muon config;
  config.set_adamw_learning_rate(0.5);
  const std::vector<TrainedParameter> others = fixture.Parameters({"bias", "head"});
  std::vector<TrainedParameter> parameters = others;
  parameters.push_back(Matrices(fixture)[0]);
  // The decay is the matrices', where there is none of its own.
  fixture.ExpectCase("adamw", *BuildPlugin<Optimizer>(config, {parameters}), others,
                     {{"exp_avg", "exp_avg"}, {"exp_avg_sq", "exp_avg_sq"}});
}

TEST(MuonTest, OrthogonalizesEachMatrix) {
  at::manual_seed(1);
  const at::Tensor matrices = at::randn({3, 8, 32});
  const auto [u, s, v] = at::linalg_svd(Orthogonalize(matrices, 5), /*full_matrices=*/false);
  EXPECT_GT(s.min().item<double>(), 0.65);
  EXPECT_LT(s.max().item<double>(), 1.25);
  // The singular vectors stay: U·Vᵀ is near.
  const auto [u0, s0, v0] = at::linalg_svd(matrices, /*full_matrices=*/false);
  EXPECT_LT(Orthogonalize(matrices, 5).sub(u0.matmul(v0)).abs().max().item<double>(), 0.25);
  EXPECT_TRUE(at::allclose(Orthogonalize(matrices, 5)[1], Orthogonalize(matrices.slice(0, 1, 2), 5)[0], 1e-4, 1e-6));
  EXPECT_TRUE(at::equal(Orthogonalize(at::zeros({1, 2, 3}), 5), at::zeros({1, 2, 3})));
}

TEST(MuonTest, GoesOnFromItsStateBitForBit) {
  OptimizerFixture("muon").ExpectGoesOnBitForBit(Muon(), {"tall", "wide", "kernel", "bias", "head"}, 4, Role::kMatrix);
}

TEST(MuonTest, PatternsNameWhatGoesToAdamW) {
  const OptimizerFixture fixture("muon");
  std::vector<TrainedParameter> parameters = Matrices(fixture);
  Muon config;
  config.add_adamw_parameters("[tk]*");
  const auto optimizer = BuildPlugin<Optimizer>(config, {parameters});
  std::vector<std::string> names;
  for (const auto& [name, tensor] : optimizer->State().tensors) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("momentum_buffer.wide", "exp_avg.tall", "exp_avg_sq.tall", "step.tall",
                                 "exp_avg.kernel", "exp_avg_sq.kernel", "step.kernel"));

  config.add_adamw_parameters("no");
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(config, {parameters}).status()),
              ElementsAre("adamw_parameters[1]"));
  config.set_adamw_parameters(1, "*");
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(config, {parameters}).status()), ElementsAre("adamw_parameters"));
}

TEST(MuonTest, AModelWithoutLayersIsAMistake) {
  const auto optimizer = Registry<Optimizer>::Create(Muon(), {{{"w", at::ones({2, 2}).set_requires_grad(true)}}});
  EXPECT_THAT(std::string(optimizer.status().message()), HasSubstr("there is no matrix of a layer"));
}

TEST(MuonTest, AllMistakesOfAConfigComeTogether) {
  Muon config;
  config.set_momentum(1);
  config.set_weight_decay(-1);
  config.set_adjustment(static_cast<Muon::Adjustment>(9));
  config.set_iterations(0);
  config.set_adamw_learning_rate(-1);
  config.set_adamw_beta1(1);
  config.set_adamw_beta2(1);
  config.set_adamw_epsilon(0);
  config.set_adamw_weight_decay(-1);
  EXPECT_THAT(ErrorPaths(Registry<Optimizer>::Create(config, {}).status()),
              ElementsAre("momentum", "weight_decay", "adjustment", "iterations", "adamw_learning_rate", "adamw_beta1",
                          "adamw_beta2", "adamw_epsilon", "adamw_weight_decay"));
}

}  // namespace
}  // namespace graticule
