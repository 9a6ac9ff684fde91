#include "trainer/guard/non_finite.h"

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ThreadLocalState.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/softmax.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/zeros.h"
#include "ATen/record_function.h"
#include "absl/status/status.h"
#include "backbones/vit/vit.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "labels/absolute/absolute.h"
#include "nn/activation_checkpointing.h"
#include "nn/autocast.h"
#include "plugin/registry.h"
#include "pooling/average/average.h"
#include "pooling/class_token/class_token.h"
#include "pooling/mpvg/mpvg.h"
#include "tasks/classification/classification.h"
#include "tasks/task.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr char kCameOutOf[] = "the first value that is not finite came out of ";

// A ViT on images of 16×16.
class NonFiniteTest : public testing::Test {
 protected:
  NonFiniteTest() { Build(ClassToken(), /*depth=*/2); }

  template <typename Pooling>
  void Build(const Pooling& pooling, int depth, double norm_epsilon = 1e-6, bool with_objective = false) {
    at::manual_seed(3);
    TaskContext context{.image_size = {16, 16}, .class_names = {"a", "b", "c"}};
    Vit vit;
    vit.set_patch_size(8);
    vit.set_embed_dim(16);
    vit.set_depth(depth);
    vit.set_num_heads(2);
    vit.set_norm_epsilon(norm_epsilon);
    context.backbone.PackFrom(vit);
    context.pooling.PackFrom(pooling);
    if (with_objective) context.objectives.emplace_back().mutable_objective()->PackFrom(AbsolutePositionalLabel());
    auto task = Registry<Task>::Create(Classification(), context);
    EXPECT_TRUE(task.ok()) << task.status();
    task_ = *std::move(task);
    parameters_.clear();
    for (const NamedParameter& parameter : task_->Parameters()) parameters_[parameter.name] = parameter.tensor;
  }

  // Without gradients, as tests change weights by it.
  at::Tensor Weight(const std::string& name) { return parameters_.at(name).detach(); }
  at::Tensor Loss(int part) { return task_->Train(batches_.at(part), 0.5).loss; }
  Diagnosis Find(const std::function<at::Tensor(int)>& forward, double loss_scale = 1) {
    const auto found = FindNonFinite(*task_, batches_, forward, loss_scale);
    EXPECT_TRUE(found.ok()) << found.status();
    return *found;
  }
  Diagnosis Find() {
    return Find([&](int part) { return Loss(part); });
  }

  std::unique_ptr<Task> task_;
  std::map<std::string, at::Tensor> parameters_;
  std::vector<Batch> batches_ = {{.images = at::randn({4, 3, 16, 16}), .labels = at::tensor({0, 1, 2, 1}, at::kLong)}};
};

TEST_F(NonFiniteTest, NothingIsFoundWhereAllIsFinite) {
  batches_.push_back({.images = at::randn({4, 3, 16, 16}), .labels = at::tensor({2, 2, 0, 1}, at::kLong)});
  const at::Tensor loss = Loss(0).add(Loss(1)).div(2);
  loss.backward();
  double squares = 0;
  for (const auto& [name, parameter] : parameters_) squares += parameter.grad().square().sum().item<double>();
  const at::Tensor before = parameters_["head.weight"].grad().clone();

  for (const double loss_scale : {1.0, 1024.0}) {
    const Diagnosis found = Find([&](int part) { return Loss(part); }, loss_scale);
    EXPECT_EQ(found.cause, "");
    EXPECT_THAT(found.bad_gradients, IsEmpty());
    EXPECT_NEAR(found.loss, loss.item<double>(), 1e-6);
    EXPECT_NEAR(found.gradient_norm, std::sqrt(squares), 1e-5);
    EXPECT_THAT(found.ToString(), HasSubstr("all values are finite"));
  }
  // Gradients are as they were, and nothing watches any more.
  EXPECT_TRUE(at::equal(parameters_["head.weight"].grad(), before));
  EXPECT_FALSE(at::hasCallbacks());
}

TEST_F(NonFiniteTest, AParameterThatIsNotFiniteIsNamed) {
  Weight("blocks.1.mlp.fc1.weight")[3][5] = kNan;
  const Diagnosis found = Find();
  EXPECT_EQ(found.cause, "the parameter blocks.1.mlp.fc1.weight is not finite: 1 NaN of 1024 values [64,16] Float");
  EXPECT_TRUE(std::isnan(found.loss));
  EXPECT_THAT(found.bad_gradients, Contains("blocks.0.attn.qkv.weight"));
  EXPECT_THAT(found.ToString(), AllOf(HasSubstr("loss: nan\ngradient norm: nan\nthe parameter"),
                                      HasSubstr("gradients that are not finite: cls_token, pos_embed, ")));
}

TEST_F(NonFiniteTest, AnOverflowIsFoundInItsLayer) {
  Weight("blocks.1.mlp.fc2.weight").fill_(3e38);
  Weight("blocks.1.mlp.fc1.bias").fill_(10);
  const Diagnosis found = Find();
  EXPECT_THAT(found.cause, StartsWith(std::string(kCameOutOf) + "aten::addmm in blocks.1.mlp.fc2 (forward): "));
  EXPECT_THAT(found.cause, AllOf(HasSubstr("[20,16] Float"), HasSubstr("the largest that went in is 3e+38")));
}

TEST_F(NonFiniteTest, AnOperatorWithoutParametersIsNamedByTheOneBeforeIt) {
  // Queries and keys of 1e20 have products of 1e40.
  Weight("blocks.0.attn.qkv.bias").narrow(0, 0, 32).fill_(1e20);
  EXPECT_THAT(Find().cause,
              AllOf(StartsWith(std::string(kCameOutOf) + "aten::_scaled_dot_product_flash_attention_for_cpu"),
                    HasSubstr(", after blocks.0.attn.qkv (forward)")));
}

// Each weight in turn is so large that its products overflow; before it all is finite.
TEST_F(NonFiniteTest, EveryModuleIsNamedWhereItOverflows) {
  const auto each_weight = [&](const auto& pooling) {
    Build(pooling, /*depth=*/3, /*norm_epsilon=*/1e-6, /*with_objective=*/true);
    for (const auto& [name, parameter] : parameters_) {
      if (name.ends_with(".bias")) Weight(name).fill_(10);  // so that no layer gets but small numbers
    }
    for (const std::optional<at::ScalarType> dtype : {std::optional<at::ScalarType>(), {at::kBFloat16}}) {
      const auto forward = [&](int part) {
        const Autocast autocast(dtype, c10::kCPU);
        return Loss(part);
      };
      EXPECT_EQ(Find(forward).cause, "");
      for (const auto& [name, parameter] : parameters_) {
        if (!name.ends_with(".weight")) continue;
        const at::Tensor before = parameter.detach().clone();
        Weight(name).fill_(3e38);
        const std::string module = name.substr(0, name.rfind('.'));
        EXPECT_THAT(Find(forward).cause, AllOf(StartsWith(kCameOutOf), HasSubstr(" in " + module + " (forward): ")))
            << pooling.GetTypeName();
        Weight(name).copy_(before);
      }
    }
    // And the sum of two large numbers.
    Weight("patch_embed.proj.bias").fill_(2e38);
    Weight("pos_embed").fill_(2e38);
    EXPECT_THAT(Find().cause, StartsWith(std::string(kCameOutOf) + "aten::add in pos_embed (forward): "))
        << pooling.GetTypeName();
  };
  each_weight(ClassToken());
  each_weight(Average());
  each_weight(Mpvg());
}

TEST_F(NonFiniteTest, InputsThatAreNotFiniteAreNamed) {
  batches_[0].images[2][0][3][3] = kInfinity;
  EXPECT_EQ(Find().cause, "the batch's images are not finite: 1 infinite of 3072 values [4,3,16,16] Float");

  batches_[0].images[2][0][3][3] = 0;
  batches_[0].teacher_logits = at::full({4, 3}, kNan);
  EXPECT_THAT(Find().cause, StartsWith("the batch's logits of the teacher are not finite: 12 NaN"));
}

// As from a batch of bytes whose normalisation went wrong.
TEST_F(NonFiniteTest, ValuesFromElsewhereAreNamedByWhoReadsThem) {
  Batch normalised = batches_[0];
  normalised.images = batches_[0].images.clone();
  normalised.images[1][1][1][1] = kNan;
  const Diagnosis found = Find([&](int) { return task_->Train(normalised, 0).loss; });
  EXPECT_EQ(found.cause,
            "values that are not finite and that no operator computed went into aten::reshape (forward): 1 NaN of 3072 "
            "values [4,2,2,3,8,8] Float");
}

TEST_F(NonFiniteTest, AutocastsCopiesOfWeightsAreKnownByTheirNames) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const at::Tensor weight = Weight("blocks.1.mlp.fc2.weight");
    const at::Tensor before = weight.clone();
    // In half precision the products overflow, not the weight.
    weight.fill_(dtype == at::kHalf ? 6e4 : 3e38);
    Weight("blocks.1.mlp.fc1.bias").fill_(10);
    const Diagnosis found = Find([&](int part) {
      const Autocast autocast(dtype, c10::kCPU);
      return Loss(part);
    });
    EXPECT_THAT(found.cause, AllOf(StartsWith(kCameOutOf), HasSubstr(" in blocks.1.mlp.fc2 (forward): "),
                                   HasSubstr(c10::toString(dtype))));
    EXPECT_THAT(found.cause, Not(HasSubstr("_to_copy")));
    weight.copy_(before);
  }
  // And the cast itself.
  Weight("blocks.1.mlp.fc2.weight").fill_(1e5);
  const Diagnosis found = Find([&](int part) {
    const Autocast autocast(at::kHalf, c10::kCPU);
    return Loss(part);
  });
  EXPECT_THAT(found.cause,
              AllOf(StartsWith(kCameOutOf), HasSubstr("copy"), HasSubstr(" in blocks.1.mlp.fc2 (forward): "),
                    HasSubstr("1024 infinite of 1024 values"), HasSubstr("the largest that went in is 100000")));
}

TEST_F(NonFiniteTest, ALossThatIsInfiniteIsFoundWhereItArises) {
  const Diagnosis found = Find([&](int part) { return Loss(part).div(0); });
  EXPECT_THAT(found.cause, StartsWith(std::string(kCameOutOf) + "aten::div, after head (forward): 1 infinite of 1"));
  EXPECT_EQ(found.loss, kInfinity);
}

TEST_F(NonFiniteTest, AGradientMayBeWrongAlone) {
  // The derivative of the square root at 0 is infinite.
  const Diagnosis found = Find([&](int part) { return Loss(part).add(parameters_["head.bias"].mul(0).sum().sqrt()); });
  EXPECT_TRUE(std::isfinite(found.loss));
  EXPECT_THAT(found.cause,
              AllOf(StartsWith(kCameOutOf), HasSubstr("aten::div, the gradient of aten::sqrt in head (backward): ")));
  EXPECT_THAT(found.bad_gradients, ElementsAre("head.bias"));
  EXPECT_TRUE(std::isnan(found.gradient_norm));
}

TEST_F(NonFiniteTest, AGradientThatOverflowsIsFoundInItsLayer) {
  Weight("blocks.1.mlp.fc2.weight").fill_(1e20);
  Weight("blocks.1.mlp.fc1.bias").fill_(-20);  // and so fc2 gets zeros
  const auto forward = [&](int part) { return Loss(part); };
  const Diagnosis found = Find(forward, /*loss_scale=*/1e20);
  EXPECT_TRUE(std::isfinite(found.loss));
  EXPECT_THAT(found.cause, StartsWith(std::string(kCameOutOf) +
                                      "aten::mm, the gradient of aten::addmm in blocks.1.mlp.fc2 (backward): 256 "));
  EXPECT_THAT(found.bad_gradients, AllOf(Contains("blocks.1.mlp.fc1.weight"), Not(Contains("blocks.1.mlp.fc2.bias"))));

  const ActivationCheckpointingScope checkpointing;
  const Diagnosis recomputed = Find(forward, /*loss_scale=*/1e20);
  EXPECT_EQ(recomputed.cause, found.cause);
  EXPECT_EQ(recomputed.bad_gradients, found.bad_gradients);
}

// A norm multiplies gradients by one over the deviation of its input. That of the last block's first norm is tiny, and
// so is that of the position.
TEST_F(NonFiniteTest, AGradientThatANormMakesLargeIsTheNorms) {
  const auto named = [&](const auto& pooling, const std::string& module) {
    Build(pooling, /*depth=*/3, /*norm_epsilon=*/1e-12);
    for (const auto& [name, parameter] : parameters_) {
      const bool residual =
          name.find(".attn.proj.") != std::string::npos || name.find(".mlp.fc2.") != std::string::npos;
      if (name.starts_with("blocks.2.attn.") || name.starts_with("blocks.2.mlp.") || name.starts_with("head.")) {
        Weight(name).copy_(at::randn(parameter.sizes()).mul(0.25));
      } else if (!name.starts_with("blocks.") && !name.ends_with("norm.weight")) {
        Weight(name).mul_(1e-8);  // what the tokens start with
      } else if (residual) {
        Weight(name).zero_();
      }
    }
    const Diagnosis found = Find([&](int part) { return Loss(part); }, /*loss_scale=*/1e35);
    EXPECT_TRUE(std::isfinite(found.loss));
    EXPECT_THAT(found.cause,
                StartsWith(std::string(kCameOutOf) +
                           "aten::native_layer_norm_backward, the gradient of aten::native_layer_norm in " + module +
                           " (backward): "));
  };
  named(ClassToken(), "blocks.2.norm1");
  named(Average(), "blocks.2.norm1");
  named(Mpvg(), "last_pos_norm");
}

// What half precision's loss scale can't help: the loss is finite, and a gradient is not, at any scale.
TEST_F(NonFiniteTest, AGradientThatIsNoNumberAtAnyLossScaleIsFound) {
  for (const double loss_scale : {1.0, 0x1p-24}) {
    const Diagnosis found = Find(
        [&](int part) {
          const Autocast autocast(at::kHalf, c10::kCPU);
          return Loss(part).add(parameters_["blocks.1.norm1.weight"].mul(0).sum().sqrt());
        },
        loss_scale);
    EXPECT_TRUE(std::isfinite(found.loss));
    EXPECT_TRUE(std::isnan(found.gradient_norm));
    EXPECT_THAT(found.cause,
                AllOf(StartsWith(kCameOutOf), HasSubstr("the gradient of aten::sqrt in blocks.1.norm1 (backward): ")));
    EXPECT_THAT(found.bad_gradients, ElementsAre("blocks.1.norm1.weight"));
  }
}

// As where the thread of a GPU computes layers again. Each thread numbers its operators from 0.
TEST_F(NonFiniteTest, OperatorsOfTwoThreadsAreToldApart) {
  Diagnosis found;
  std::thread([&] {
    found = Find([&](int part) {
      at::Tensor root;
      const at::ThreadLocalState state;
      std::thread([&] {
        const at::ThreadLocalStateGuard guard(state);
        root = parameters_["head.bias"].mul(0).sum().sqrt();
      }).join();
      return Loss(part).add(root);
    });
  }).join();
  EXPECT_THAT(found.cause, HasSubstr("the gradient of aten::sqrt in head (backward): "));
}

TEST_F(NonFiniteTest, ANormMayOverflowAlone) {
  const Diagnosis found = Find([&](int part) { return Loss(part).mul(1e30); });
  EXPECT_THAT(found.cause, StartsWith("the gradients are finite but their norm is not; the largest entry, "));
  EXPECT_THAT(found.bad_gradients, IsEmpty());
  EXPECT_EQ(found.gradient_norm, kInfinity);
}

TEST_F(NonFiniteTest, WhatDoesNotReachTheLossIsNotBlamed) {
  const auto masked = [&](int part) {
    const at::Tensor logits = at::zeros({4}).masked_fill(at::tensor({1, 0, 0, 0}).to(at::kBool), -kInfinity);
    return Loss(part).add(at::softmax(logits, 0).sum());
  };
  EXPECT_EQ(Find(masked).cause, "");
  Weight("blocks.1.mlp.fc2.weight").fill_(3e38);
  Weight("blocks.1.mlp.fc1.bias").fill_(10);
  EXPECT_THAT(Find(masked).cause, HasSubstr(" in blocks.1.mlp.fc2 (forward): "));
}

// New memory holds whatever was there before; here LibTorch fills it with NaN.
TEST_F(NonFiniteTest, NewMemoryIsNotBlamed) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  for (const std::optional<at::ScalarType> dtype : {std::optional<at::ScalarType>(), {at::kBFloat16}}) {
    const auto forward = [&](int part) {
      const Autocast autocast(dtype, c10::kCPU);
      return Loss(part);
    };
    EXPECT_EQ(Find(forward).cause, "");
    const at::Tensor bias = Weight("blocks.0.attn.qkv.bias");
    const at::Tensor before = bias.clone();
    bias.narrow(0, 0, 32).fill_(1e20);
    EXPECT_THAT(Find(forward).cause, AllOf(StartsWith(kCameOutOf), HasSubstr("attention"),
                                           HasSubstr(", after blocks.0.attn.qkv (forward)")));
    bias.copy_(before);
  }
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST_F(NonFiniteTest, EachPartIsLookedAt) {
  batches_.push_back(batches_[0]);
  const Diagnosis found = Find([&](int part) { return part == 0 ? Loss(part) : Loss(part).log().mul(-1).log(); });
  EXPECT_THAT(found.cause, AllOf(StartsWith(kCameOutOf), HasSubstr("aten::log")));
}

TEST_F(NonFiniteTest, WhatIsThrownIsAStatus) {
  batches_[0].labels = at::tensor({0, 1, 2, 7}, at::kLong);
  const auto found = FindNonFinite(*task_, batches_, [&](int part) { return Loss(part); });
  EXPECT_THAT(found.status().message(), HasSubstr("Target 7 is out of bounds"));
  EXPECT_FALSE(at::hasCallbacks());
}

// Moving statistics of a batch norm, say.
class WithBuffer : public Module {
 public:
  at::Tensor weight = RegisterParameter("weight", init::Ones(NewParameter({2})));
  at::Tensor mean = RegisterBuffer("mean", at::zeros({2}));
};

TEST(BuffersTest, AreAsTheyWereAfterwards) {
  WithBuffer module;
  const auto found = FindNonFinite(module, {Batch{.images = at::ones({1})}}, [&](int) {
    const c10::NoGradGuard no_grad;
    module.mean.add_(kNan);
    const at::AutoGradMode with_grad(true);
    return module.weight.sum().div(module.mean.sum());
  });
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->cause, StartsWith(kCameOutOf));
  EXPECT_TRUE(at::equal(module.mean, at::zeros({2})));
}

}  // namespace
}  // namespace graticule
