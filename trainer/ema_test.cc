#include "trainer/ema.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

constexpr double kDecay = 0.75;

// y = x·w + b, and beside them a statistic and a counter that are no weights.
class LineModule : public Module {
 public:
  at::Tensor Forward(const at::Tensor& x) { return x.matmul(weight_).add(bias_); }
  void SetWeights(const at::Tensor& weight, double bias) {
    c10::NoGradGuard no_grad;
    weight_.copy_(weight);
    bias_.fill_(bias);
    mean_.fill_(bias);
    count_.add_(1);
  }
  Ema MakeEma(bool warmup = false) const { return Ema(kDecay, warmup, Parameters(), Buffers()); }
  const at::Tensor& count() const { return count_; }

 private:
  at::Tensor weight_ = RegisterParameter("weight", init::Ones(NewParameter({3})));
  at::Tensor bias_ = RegisterParameter("bias", init::Zeros(NewParameter({1})));
  at::Tensor mean_ = RegisterBuffer("mean", at::zeros({1}));
  at::Tensor count_ = RegisterBuffer("count", at::zeros({1}, at::kLong));
};

TEST(EmaTest, StartsAtTheWeights) {
  LineModule module;
  module.SetWeights(at::full({3}, 5), 2);
  const Ema ema = module.MakeEma();
  EXPECT_TRUE(at::equal(ema.State().Find("weight"), at::full({3}, 5.0)));
  EXPECT_TRUE(at::equal(ema.State().Find("bias"), at::full({1}, 2.0)));
}

TEST(EmaTest, IsTheGeometricSumOfTheWeights) {
  LineModule module;
  Ema ema = module.MakeEma();
  // Worked out at the end: a_n = d^n w_0 + (1 - d) Σ d^(n-i) w_i.
  constexpr int kUpdates = 5;
  double bias = 0, weight = 1;  // d^0 of the start, which the loop brings down
  for (int i = 1; i <= kUpdates; ++i) {
    module.SetWeights(at::full({3}, 10.0 * i), -i * i);
    ema.Update(i - 1);
  }
  for (int i = 0; i < kUpdates; ++i) weight *= kDecay;
  for (int i = 1; i <= kUpdates; ++i) {
    double share = 1 - kDecay;
    for (int k = i; k < kUpdates; ++k) share *= kDecay;
    weight += share * 10 * i;
    bias += share * -i * i;
  }
  const Safetensors state = ema.State();
  EXPECT_TRUE(at::allclose(state.Find("weight"), at::full({3}, weight))) << weight;
  EXPECT_TRUE(at::allclose(state.Find("bias"), at::full({1}, bias))) << bias;
  // So is a statistic, from 0; a count is not, and its type remains.
  EXPECT_TRUE(at::allclose(state.Find("mean"), at::full({1}, bias))) << bias;
  EXPECT_EQ(state.Find("count").item<int64_t>(), kUpdates);
  EXPECT_EQ(state.Find("count").scalar_type(), at::kLong);
  // The model itself is as the last step left it.
  EXPECT_EQ(module.Parameters()[0].tensor[0].item<float>(), 10.0f * kUpdates);
}

TEST(EmaTest, SwapPutsTheAveragesIntoTheModelAndBackAgain) {
  LineModule module;
  Ema ema = module.MakeEma();
  module.SetWeights(at::full({3}, 5), 8);
  ema.Update(0);
  module.SetWeights(at::full({3}, 100), 100);
  const at::Tensor x = at::full({2, 3}, 1.0);
  const at::Tensor output = module.Forward(x).detach();
  const Safetensors state = ema.State();

  ema.Swap();
  // Averages of weights 1 and 5 and of biases 0 and 8.
  EXPECT_TRUE(at::allclose(module.Forward(x), at::full({2}, 3 * (1 * 0.75 + 5 * 0.25) + 8 * 0.25)));
  EXPECT_EQ(module.count().item<int64_t>(), 1);
  for (const NamedParameter& parameter : module.Parameters()) EXPECT_TRUE(parameter.tensor.requires_grad());

  ema.Swap();
  EXPECT_TRUE(at::equal(module.Forward(x), output));
  EXPECT_EQ(module.count().item<int64_t>(), 2);
  for (const auto& [name, tensor] : state.tensors) EXPECT_TRUE(at::equal(ema.State().Find(name), tensor)) << name;
  // Training goes on: gradients reach the weights, and the average still follows them.
  module.Forward(x).sum().backward();
  EXPECT_TRUE(at::equal(module.Parameters()[0].tensor.grad(), at::full({3}, 2.0)));
  ema.Update(1);
  EXPECT_TRUE(at::allclose(ema.State().Find("weight"), at::full({3}, 2 * 0.75 + 100 * 0.25)));
}

// The averages are the whole state: a resumed average is the same to the bit, in the warm-up too.
TEST(EmaTest, StateContinuesTheAverage) {
  for (const bool warmup : {false, true}) {
    LineModule module;
    Ema ema = module.MakeEma(warmup);
    for (int step = 0; step < 3; ++step) {
      module.SetWeights(at::randn({3}), step);
      ema.Update(step);
    }
    // As written to a file: a copy.
    Safetensors saved = ema.State();
    for (auto& [name, tensor] : saved.tensors) tensor = tensor.clone();
    Ema resumed = module.MakeEma(warmup);
    ASSERT_TRUE(resumed.LoadState(saved).ok());
    for (int step = 3; step < 6; ++step) {
      module.SetWeights(at::randn({3}), step);
      ema.Update(step);
      resumed.Update(step);
    }
    ASSERT_EQ(ema.State().tensors.size(), 4);
    for (const auto& [name, tensor] : ema.State().tensors) {
      EXPECT_TRUE(at::equal(resumed.State().Find(name), tensor)) << name;
    }
  }
}

// The numbers come from tools/parity/ema_values.py (timm 1.0.22).
TEST(EmaTest, WarmsUpAsTimms) {
  const Ema ema(0.9999, /*warmup=*/true, {}, {});
  const std::vector<std::pair<int64_t, double>> decays = {
      {0, 0.0},    {1, 0.3700394750525634},      {2, 0.5192501432308638}, {9, 0.7845565309968117},
      {999, 0.99}, {999998, 0.9998999999333332}, {999999, 0.9999},        {2000000, 0.9999}};
  for (const auto& [step, decay] : decays) EXPECT_NEAR(ema.Decay(step), decay, 1e-12) << step;

  LineModule module;
  Ema average = module.MakeEma(/*warmup=*/true);
  const std::vector<double> averages = {10,
                                        16.299606323242188,
                                        22.88606834411621,
                                        29.677736282348633,
                                        36.62785339355469,
                                        43.7061882019043,
                                        50.89165115356445,
                                        58.168739318847656,
                                        66.12655639648438,
                                        74.59491729736328};
  for (size_t step = 0; step < averages.size(); ++step) {
    module.SetWeights(at::full({3}, 10.0 * static_cast<double>(step + 1)), 0);
    average.Update(static_cast<int64_t>(step));
    EXPECT_NEAR(average.State().Find("weight")[0].item<double>(), averages[step], 1e-5 * averages[step]) << step;
  }
}

TEST(EmaTest, TheStateOfAnotherModelIsAnError) {
  LineModule module;
  Ema ema = module.MakeEma();
  for (const char* name : {"weight", "bias", "count"}) {
    Safetensors missing, misshapen;
    for (const auto& [other, tensor] : ema.State().tensors) {
      if (other != name) missing.tensors.emplace_back(other, tensor.clone());
      misshapen.tensors.emplace_back(other, other == name ? at::zeros({7}) : tensor.clone());
    }
    for (const Safetensors& wrong : {missing, misshapen}) {
      const absl::Status status = ema.LoadState(wrong);
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    }
  }
}

}  // namespace
}  // namespace graticule
