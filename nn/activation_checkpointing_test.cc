#include "nn/activation_checkpointing.h"

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/allclose.h"
#include "ATen/ops/dropout.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/randn.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/autocast.h"
#include "torch/csrc/autograd/function.h"
#include "torch/csrc/autograd/function_hook.h"
#include "torch/csrc/autograd/variable.h"

namespace graticule {
namespace {

at::Tensor Parameter(at::IntArrayRef shape) { return at::randn(shape).requires_grad_(true); }

// tanh(linear(x + position)), and how often it was computed.
struct Layer {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& position) {
    ++calls;
    again += IsRecomputing();
    return at::linear(position.defined() ? x.add(position) : x, weight, bias).tanh();
  }
  at::Tensor Run(const at::Tensor& x, const at::Tensor& position = {}) {
    return Checkpointed([this](const at::Tensor& x, const at::Tensor& position) { return (*this)(x, position); }, x,
                        position);
  }

  at::Tensor weight = Parameter({6, 6});
  at::Tensor bias = Parameter({6});
  int calls = 0;
  int again = 0;
};

class ActivationCheckpointingTest : public testing::Test {
 protected:
  void SetUp() override { at::manual_seed(1); }

  // Of the mean of the squares of what `run` gives, with respect to `leaves`; forward pass in a scope or not.
  static std::vector<at::Tensor> Gradients(bool checkpointed, const std::vector<at::Tensor>& leaves,
                                           const std::function<at::Tensor()>& run) {
    for (at::Tensor leaf : leaves) leaf.mutable_grad() = at::Tensor();
    at::manual_seed(2);
    std::unique_ptr<ActivationCheckpointingScope> scope;
    if (checkpointed) scope = std::make_unique<ActivationCheckpointingScope>();
    const at::Tensor loss = run().to(at::kFloat).square().mean();
    scope.reset();
    loss.backward();
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& leaf : leaves) gradients.push_back(leaf.grad());
    return gradients;
  }

  static void ExpectSameGradients(const std::vector<at::Tensor>& leaves, const std::function<at::Tensor()>& run) {
    const std::vector<at::Tensor> expected = Gradients(false, leaves, run), found = Gradients(true, leaves, run);
    for (size_t i = 0; i < leaves.size(); ++i) {
      ASSERT_EQ(expected[i].defined(), found[i].defined()) << i;
      if (expected[i].defined()) EXPECT_TRUE(at::equal(expected[i], found[i])) << i;
    }
  }
};

TEST_F(ActivationCheckpointingTest, GradientsAreTheSameAndTheLayerRunsOnceMore) {
  Layer first, second;
  const at::Tensor x = Parameter({4, 6}), position = Parameter({1, 6});
  const std::vector<at::Tensor> leaves = {x, position, first.weight, first.bias, second.weight, second.bias};
  ExpectSameGradients(leaves, [&] { return second.Run(first.Run(x, position), position.mul(2)).add(x); });
  for (const Layer& layer : {first, second}) {
    EXPECT_EQ(layer.calls, 3);
    EXPECT_EQ(layer.again, 1);
  }
  EXPECT_FALSE(IsRecomputing());
}

TEST_F(ActivationCheckpointingTest, InputsThatNeedNoGradientGetNone) {
  Layer layer;
  const at::Tensor x = at::randn({4, 6}), position = at::randn({1, 6});
  ExpectSameGradients({x, position, layer.weight, layer.bias}, [&] { return layer.Run(x, position); });
  ExpectSameGradients({x, layer.weight, layer.bias}, [&] { return layer.Run(x); });
}

TEST_F(ActivationCheckpointingTest, FrozenParametersGetNoGradientAndTheInputDoes) {
  Layer layer;
  layer.weight.requires_grad_(false);
  layer.bias.requires_grad_(false);
  const at::Tensor x = Parameter({4, 6});
  ExpectSameGradients({x, layer.weight, layer.bias}, [&] { return layer.Run(x); });

  const ActivationCheckpointingScope scope;
  EXPECT_FALSE(layer.Run(x.detach()).requires_grad());
}

TEST_F(ActivationCheckpointingTest, IsAPlainCallWithoutGradientsAndOutsideOfAScope) {
  Layer layer;
  const at::Tensor x = Parameter({4, 6});
  EXPECT_NE(layer.Run(x).grad_fn()->name(), "CheckpointedLayer");
  const ActivationCheckpointingScope scope;
  EXPECT_EQ(layer.Run(x).grad_fn()->name(), "CheckpointedLayer");
  const c10::NoGradGuard no_grad;
  EXPECT_FALSE(layer.Run(x).requires_grad());
  EXPECT_EQ(layer.calls, 3);
}

TEST_F(ActivationCheckpointingTest, ScopesNest) {
  Layer layer;
  const at::Tensor x = Parameter({4, 6});
  const auto is_checkpointed = [&] { return layer.Run(x).grad_fn()->name() == "CheckpointedLayer"; };
  {
    const ActivationCheckpointingScope outer;
    { const ActivationCheckpointingScope inner; }
    EXPECT_TRUE(is_checkpointed());
  }
  EXPECT_FALSE(is_checkpointed());
}

TEST_F(ActivationCheckpointingTest, ALayerWithinALayerIsPartOfIt) {
  Layer inner;
  const at::Tensor x = Parameter({4, 6});
  ExpectSameGradients({x, inner.weight, inner.bias}, [&] {
    return Checkpointed([&](const at::Tensor& x, const at::Tensor& position) { return inner.Run(x).add(x); }, x);
  });
  EXPECT_EQ(inner.calls, 3);
}

TEST_F(ActivationCheckpointingTest, DrawsAreThoseOfTheFirstTime) {
  Layer layer;
  const at::Tensor x = Parameter({64, 6});
  ExpectSameGradients({x, layer.weight}, [&] {
    const auto drop = [&](const at::Tensor& x, const at::Tensor&) { return at::dropout(layer(x, {}), 0.5, true); };
    return Checkpointed(drop, Checkpointed(drop, x));
  });
}

TEST_F(ActivationCheckpointingTest, TheBackwardPassDrawsNothing) {
  const at::Tensor x = Parameter({64, 6});
  const auto next_draw = [&](bool backward) {
    const ActivationCheckpointingScope scope;
    at::manual_seed(3);
    const at::Tensor y =
        Checkpointed([](const at::Tensor& x, const at::Tensor&) { return at::dropout(x, 0.5, true); }, x);
    at::rand({7});
    if (backward) y.sum().backward();
    return at::rand({16});
  };
  EXPECT_TRUE(at::equal(next_draw(false), next_draw(true)));
}

TEST_F(ActivationCheckpointingTest, AutocastIsThatOfTheFirstTime) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    Layer first, second;
    const at::Tensor x = Parameter({16, 6});
    ExpectSameGradients({x, first.weight, first.bias, second.weight, second.bias}, [&] {
      const at::Tensor y = first.Run(x);
      const Autocast autocast(dtype, at::kCPU);
      const at::Tensor z = second.Run(y.mul(2));
      EXPECT_EQ(z.scalar_type(), dtype);
      return z;
    });
  }
}

// A copy of the weight that was cast for the layer must not be cut off from the weight. Gradients of such a copy are
// added up in its dtype, those of the layer's own are not.
TEST_F(ActivationCheckpointingTest, AWeightThatALayerHasCastStillGetsGradientsFromOthers) {
  Layer layer;
  const at::Tensor x = at::randn({16, 6});
  const auto run = [&] {
    const Autocast autocast(at::kBFloat16, at::kCPU);
    return layer.Run(x).add(at::linear(x, layer.weight)).add(layer.Run(x.mul(2)));
  };
  const at::Tensor expected = Gradients(false, {layer.weight}, run)[0], found = Gradients(true, {layer.weight}, run)[0];
  EXPECT_TRUE(at::allclose(found, expected, /*rtol=*/0.02, /*atol=*/0.02 * expected.abs().max().item<double>()));
}

TEST_F(ActivationCheckpointingTest, TheBackwardPassMayRunUnderAutocast) {
  Layer layer;
  const at::Tensor x = Parameter({16, 6});
  const auto gradient = [&](bool checkpointed) {
    layer.weight.mutable_grad() = at::Tensor();
    std::unique_ptr<ActivationCheckpointingScope> scope;
    if (checkpointed) scope = std::make_unique<ActivationCheckpointingScope>();
    const at::Tensor y = layer.Run(x);  // in fp32
    const Autocast autocast(at::kBFloat16, at::kCPU);
    y.sum().backward();
    return layer.weight.grad();
  };
  EXPECT_TRUE(at::equal(gradient(false), gradient(true)));
}

// As DDP hooks accumulators.
class CountingHook : public torch::autograd::FunctionPostHook {
 public:
  CountingHook(const at::Tensor& parameter, std::vector<at::Tensor>& seen) : parameter_(parameter), seen_(seen) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list& inputs) override {
    seen_.push_back(parameter_.grad().clone());
    return outputs;
  }

 private:
  const at::Tensor& parameter_;
  std::vector<at::Tensor>& seen_;
};

TEST_F(ActivationCheckpointingTest, AHookOfAParameterFiresOnceWithItsWholeGradient) {
  Layer shared;
  const at::Tensor x = at::randn({4, 6});
  const std::shared_ptr<torch::autograd::Node> accumulator = torch::autograd::impl::grad_accumulator(shared.weight);
  std::vector<at::Tensor> seen;
  accumulator->add_post_hook(std::make_unique<CountingHook>(shared.weight, seen));
  const auto run = [&] { return shared.Run(shared.Run(shared.Run(x))).add(at::linear(x, shared.weight)); };
  const at::Tensor expected = Gradients(false, {shared.weight}, run)[0];
  seen.clear();
  Gradients(true, {shared.weight}, run);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_TRUE(at::equal(seen[0], expected));
}

TEST_F(ActivationCheckpointingTest, GradientsAccumulateOverPasses) {
  Layer layer;
  const auto accumulated = [&](bool checkpointed) {
    at::manual_seed(4);
    layer.weight.mutable_grad() = at::Tensor();
    for (int part = 0; part < 3; ++part) {
      std::unique_ptr<ActivationCheckpointingScope> scope;
      if (checkpointed) scope = std::make_unique<ActivationCheckpointingScope>();
      layer.Run(at::randn({4, 6})).square().sum().backward();
    }
    return layer.weight.grad().clone();
  };
  EXPECT_TRUE(at::equal(accumulated(false), accumulated(true)));
}

TEST_F(ActivationCheckpointingTest, ComputesOnlyWhatIsAskedFor) {
  Layer layer;
  const at::Tensor x = Parameter({4, 6});
  const ActivationCheckpointingScope scope;
  layer.Run(x).sum().backward({}, /*retain_graph=*/false, /*create_graph=*/false, {{x}});
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(layer.weight.grad().defined());
}

TEST_F(ActivationCheckpointingTest, AGraphThatIsKeptCanBeGoneThroughAgain) {
  Layer layer;
  const ActivationCheckpointingScope scope;
  const at::Tensor loss = layer.Run(Parameter({4, 6})).sum();
  loss.backward({}, /*retain_graph=*/true);
  const at::Tensor once = layer.weight.grad().clone();
  loss.backward();
  EXPECT_TRUE(at::equal(layer.weight.grad(), once.mul(2)));
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST_F(ActivationCheckpointingTest, AnInputThatHasChangedIsAnError) {
  Layer layer;
  const ActivationCheckpointingScope scope;
  at::Tensor x = at::randn({4, 6});
  const at::Tensor loss = layer.Run(x).sum();
  x.add_(1);
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST_F(ActivationCheckpointingTest, SecondDerivativesAreAnError) {
  Layer layer;
  const ActivationCheckpointingScope scope;
  const at::Tensor loss = layer.Run(Parameter({4, 6})).sum();
  EXPECT_THROW(loss.backward({}, /*retain_graph=*/true, /*create_graph=*/true), c10::Error);
}

TEST_F(ActivationCheckpointingTest, AfterAnExceptionEverythingIsAsBefore) {
  const at::Tensor x = Parameter({4, 6});
  at::Tensor loss;
  {
    const ActivationCheckpointingScope scope;
    loss = Checkpointed(
               [](const at::Tensor& x, const at::Tensor&) {
                 at::rand({3});
                 if (IsRecomputing()) throw std::runtime_error("failed");
                 return x.mul(2);
               },
               x)
               .sum();
  }
  at::manual_seed(5);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(5);
  EXPECT_THROW(loss.backward(), std::runtime_error);
  EXPECT_TRUE(at::equal(at::rand({4}), expected));
  EXPECT_FALSE(IsRecomputing());
  EXPECT_EQ(CurrentAutocastDtype(at::kCPU), std::nullopt);
}

TEST_F(ActivationCheckpointingTest, WithoutACheckpointNothingIsKeptOfTheLayerButItsInput) {
  const at::Tensor x = Parameter({4, 6});
  c10::weak_intrusive_ptr<c10::TensorImpl> inside(c10::intrusive_ptr<c10::TensorImpl>{});
  const auto layer = [&](const at::Tensor& x, const at::Tensor&) {
    const at::Tensor y = x.exp();
    inside = y.getIntrusivePtr();
    return y.sin();
  };
  const at::Tensor plain = Checkpointed(layer, x);
  EXPECT_FALSE(inside.expired());
  const ActivationCheckpointingScope scope;
  const at::Tensor checkpointed = Checkpointed(layer, x);
  EXPECT_TRUE(inside.expired());
}

}  // namespace
}  // namespace graticule
