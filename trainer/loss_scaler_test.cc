#include "trainer/loss_scaler.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/_amp_foreach_non_finite_check_and_unscale.h"
#include "ATen/ops/_amp_update_scale.h"
#include "ATen/ops/allclose.h"
#include "ATen/ops/cross_entropy_loss.h"
#include "ATen/ops/full.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/zeros.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/autocast.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/patch_embed.h"
#include "nn/transformer_block.h"

namespace graticule {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// torch.amp.GradScaler on LibTorch's own operators: the scale after each step.
class GradScaler {
 public:
  explicit GradScaler(const LossScalerOptions& options)
      : options_(options), scale_(at::full({}, options.initial_scale)), steps_(at::zeros({}, at::kInt)) {}

  double Update(bool finite) {
    at::_amp_update_scale_(scale_, steps_, at::full({}, finite ? 0.0 : 1.0), options_.growth_factor,
                           options_.backoff_factor, options_.growth_interval);
    return scale_.item<double>();
  }

 private:
  LossScalerOptions options_;
  at::Tensor scale_, steps_;
};

TEST(LossScalerTest, StartsAndGoesOnAsGradScaler) {
  LossScaler scaler;
  GradScaler expected({});
  EXPECT_EQ(scaler.GetState().scale, 65536);
  for (int step = 1; step <= 4500; ++step) {
    const bool finite = step != 3 && step != 2100;
    scaler.Update(finite);
    ASSERT_EQ(scaler.GetState().scale, expected.Update(finite)) << step;
  }
  // Halved twice; doubled after the 2000 steps that began at step 4, and those that began at step 2101.
  EXPECT_EQ(scaler.GetState().scale, 65536);
  EXPECT_EQ(scaler.GetState().growth_steps, 4500 - 2100 - 2000);
}

TEST(LossScalerTest, FollowsGradScalerThroughRandomSteps) {
  const LossScalerOptions options = {
      .initial_scale = 1024, .growth_factor = 3, .backoff_factor = 0.25, .growth_interval = 4};
  LossScaler scaler(options);
  GradScaler expected(options);
  std::mt19937 random(1);
  for (int step = 0; step < 500; ++step) {
    const bool finite = random() % 5 != 0;
    scaler.Update(finite);
    ASSERT_FLOAT_EQ(scaler.GetState().scale, expected.Update(finite)) << step;
  }
}

TEST(LossScalerTest, DoesNotGrowBeyondSinglePrecision) {
  const LossScalerOptions options = {.initial_scale = std::ldexp(1.0, 126), .growth_interval = 1};
  LossScaler scaler(options);
  GradScaler expected(options);
  for (int step = 0; step < 4; ++step) {
    scaler.Update(true);
    EXPECT_EQ(scaler.GetState().scale, expected.Update(true));
  }
  EXPECT_EQ(scaler.GetState().scale, std::ldexp(1.0, 127));
}

TEST(LossScalerTest, GradientsAreThoseOfTheLossItself) {
  const LossScaler scaler({.initial_scale = 3000});
  at::Tensor weight = at::randn({5}).set_requires_grad(true);
  const at::Tensor x = at::randn({5});
  scaler.Scale(weight.mul(x).sum()).backward();
  EXPECT_TRUE(at::allclose(weight.grad(), x.mul(3000)));
  scaler.Unscale({weight.grad()});
  EXPECT_TRUE(at::allclose(weight.grad(), x));
}

TEST(LossScalerTest, UnscalesAsGradScalerAndKeepsWhatIsNotFinite) {
  const std::vector<at::Tensor> gradients = {at::randn({4, 3}), at::tensor({1e-30f, kInfinity, 2.0f, std::nanf("")})};
  std::vector<at::Tensor> expected;
  for (const at::Tensor& gradient : gradients) expected.push_back(gradient.clone());
  at::Tensor found = at::zeros({});
  at::_amp_foreach_non_finite_check_and_unscale_(expected, found, at::full({}, 1.0 / 65536));
  ASSERT_EQ(found.item<float>(), 1);
  LossScaler().Unscale(gradients);
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_TRUE(at::allclose(gradients[i], expected[i], 0, 0, /*equal_nan=*/true));
  }
}

TEST(LossScalerTest, GoesOnFromItsStateAsIfItHadNotStopped) {
  const LossScalerOptions options = {.growth_interval = 7};
  LossScaler whole(options), first(options);
  const auto finite = [](int step) { return step % 11 != 5; };
  for (int step = 0; step < 25; ++step) {
    whole.Update(finite(step));
    first.Update(finite(step));
  }
  LossScaler second(options);
  second.SetState(first.GetState());
  for (int step = 25; step < 60; ++step) {
    whole.Update(finite(step));
    second.Update(finite(step));
    ASSERT_EQ(second.GetState().scale, whole.GetState().scale);
    ASSERT_EQ(second.GetState().growth_steps, whole.GetState().growth_steps);
  }
}

// Two layers between a patch embedding and a classifier.
class TinyVit : public Module {
 public:
  TinyVit() : embed_(3, 4, 16), head_(16, 4) {
    RegisterModule("embed", &embed_);
    for (int layer = 0; layer < 2; ++layer) {
      blocks_.push_back(RegisterModule(
          "blocks." + std::to_string(layer),
          std::make_unique<TransformerBlock>(TransformerBlockOptions{
              .attention = {.width = 16, .heads = 2}, .mlp_hidden = 32, .mlp_dropout = 0.1, .drop_path = 0.1})));
    }
    RegisterModule("head", &head_);
  }
  // [B,3,16,16] to [B,4].
  at::Tensor Forward(const at::Tensor& images) const {
    at::Tensor x = embed_.Forward(images);
    for (const TransformerBlock* block : blocks_) x = block->Forward(x, {});
    return head_.Forward(x.mean(1));
  }

 private:
  PatchEmbed embed_;
  std::vector<TransformerBlock*> blocks_;
  Linear head_;
};

TEST(LossScalerTest, AVisionTransformerLearnsInHalfPrecision) {
  at::manual_seed(1);
  TinyVit model;
  const at::Tensor images = at::randn({16, 3, 16, 16}), labels = at::randint(0, 4, {16}, at::kLong);
  // Of the first step all gradients are out of range.
  LossScaler scaler({.initial_scale = 1e9, .growth_interval = 20});
  const auto loss = [&] {
    const Autocast autocast(at::kHalf, at::kCPU);
    const at::Tensor logits = model.Forward(images);
    EXPECT_EQ(logits.scalar_type(), at::kHalf);
    return at::cross_entropy_loss(logits.to(at::kFloat), labels);
  };
  const double before = loss().item<double>();
  int skipped = 0;
  for (int step = 0; step < 80; ++step) {
    scaler.Scale(loss()).backward();
    bool finite = true;
    for (const NamedParameter& parameter : model.Parameters()) {
      finite &= parameter.tensor.grad().isfinite().all().item<bool>();
    }
    for (const NamedParameter& parameter : model.Parameters()) {
      at::Tensor tensor = parameter.tensor;
      const c10::NoGradGuard no_grad;
      scaler.Unscale({tensor.grad()});
      if (finite) tensor.sub_(tensor.grad(), 0.3);
      tensor.mutable_grad() = at::Tensor();
    }
    scaler.Update(finite);
    skipped += !finite;
  }
  EXPECT_GT(skipped, 0);
  EXPECT_LT(skipped, 40);
  EXPECT_LT(loss().item<double>(), 0.7 * before);
}

TEST(LossScalerTest, SaysThatItHasShrunkTooFar) {
  LossScaler scaler;
  // From 2¹⁶ to 2⁻²⁴.
  for (int step = 0; step < 40; ++step) {
    scaler.Update(false);
    EXPECT_TRUE(scaler.Check().ok()) << step;
  }
  scaler.Update(false);
  EXPECT_EQ(scaler.Check().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace graticule
