#include "nn/autocast.h"

#include <optional>

#include "ATen/ops/equal.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/ones.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

class AutocastTest : public testing::Test {
 protected:
  at::Tensor Linear() { return at::linear(at::ones({2, 4}), weight_); }

  at::Tensor weight_ = at::ones({3, 4}).set_requires_grad(true);
};

TEST_F(AutocastTest, LinearIsOfTheDtypeInsideAndFp32Outside) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    {
      const Autocast autocast(dtype, at::kCPU);
      EXPECT_EQ(Linear().scalar_type(), dtype);
    }
    EXPECT_EQ(Linear().scalar_type(), at::kFloat);
    EXPECT_EQ(weight_.scalar_type(), at::kFloat);
  }
}

TEST_F(AutocastTest, ANestedOneGivesTheOuterBack) {
  {
    const Autocast outer(at::kBFloat16, at::kCPU);
    {
      const Autocast inner(at::kHalf, at::kCPU);
      EXPECT_EQ(Linear().scalar_type(), at::kHalf);
    }
    {
      const Autocast inner(std::nullopt, at::kCPU);
      EXPECT_EQ(Linear().scalar_type(), at::kFloat);
    }
    EXPECT_EQ(Linear().scalar_type(), at::kBFloat16);
  }
  EXPECT_EQ(Linear().scalar_type(), at::kFloat);
}

TEST_F(AutocastTest, WithoutADtypeNothingIsCast) {
  const Autocast autocast(std::nullopt, at::kCPU);
  EXPECT_EQ(Linear().scalar_type(), at::kFloat);
}

TEST_F(AutocastTest, WhatIsCurrentCanBeEnteredAgain) {
  std::optional<at::ScalarType> seen;
  EXPECT_EQ(CurrentAutocastDtype(at::kCPU), std::nullopt);
  {
    const Autocast autocast(at::kHalf, at::kCPU);
    seen = CurrentAutocastDtype(at::kCPU);
    EXPECT_EQ(CurrentAutocastDtype(at::kCUDA), std::nullopt);
  }
  EXPECT_EQ(seen, at::kHalf);
  EXPECT_EQ(CurrentAutocastDtype(at::kCPU), std::nullopt);
  const Autocast again(seen, at::kCPU);
  EXPECT_EQ(Linear().scalar_type(), at::kHalf);
}

// Autocast keeps cast copies of weights; a step must not see those of the one before.
TEST_F(AutocastTest, TheNextOneSeesChangedWeights) {
  {
    const Autocast autocast(at::kBFloat16, at::kCPU);
    EXPECT_EQ(Linear()[0][0].item<float>(), 4);
  }
  {
    c10::NoGradGuard no_grad;
    weight_.fill_(2);
  }
  const Autocast autocast(at::kBFloat16, at::kCPU);
  EXPECT_EQ(Linear()[0][0].item<float>(), 8);
}

TEST_F(AutocastTest, GradientsReachTheWeightsInFp32) {
  at::Tensor loss;
  {
    const Autocast autocast(at::kBFloat16, at::kCPU);
    loss = Linear().sum();
  }
  loss.backward();
  EXPECT_EQ(weight_.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(weight_.grad(), at::ones({3, 4}).mul(2)));
}

}  // namespace
}  // namespace graticule
