#include "backbones/testing.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/softmax.h"
#include "ATen/ops/stack.h"
#include "ATen/record_function.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/activation_checkpointing.h"
#include "nn/autocast.h"
#include "nn/weight_layout.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/testing.h"

namespace graticule {

BackboneContext Context(Size2d image_size, bool class_token, const PositionDelivery& delivery) {
  return {.image_size = image_size, .contract = {.class_token = class_token, .delivery = delivery}};
}

std::unique_ptr<Backbone> Build(const google::protobuf::Message& config, const BackboneContext& context) {
  return BuildPlugin<Backbone>(config, context);
}

std::map<std::string, std::string> Errors(const google::protobuf::Message& config, const BackboneContext& context) {
  return Errors(Registry<Backbone>::Create(config, context).status());
}

std::set<std::string> ErrorPaths(const google::protobuf::Message& config, const BackboneContext& context) {
  const std::vector<std::string> paths = ErrorPaths(Registry<Backbone>::Create(config, context).status());
  return {paths.begin(), paths.end()};
}

std::vector<DeliveryCase> DeliveryCases() {
  std::vector<DeliveryCase> cases;
  const auto add = [&](
                       const std::string& name, bool class_token, PositionDelivery::Preset preset,
                       const std::function<void(PositionDelivery&)>& change = [](PositionDelivery&) {}) {
    cases.push_back({name, class_token, Preset(preset)});
    change(cases.back().delivery);
  };
  add("default", true, PositionDelivery::VIT);
  add("LaPE", true, PositionDelivery::LAPE);
  add("PVG", false, PositionDelivery::PVG);
  add("PVG with class token", true, PositionDelivery::PVG);
  add("MPVG", false, PositionDelivery::MPVG);
  for (const int k : {1, 2, 3}) {
    add(absl::StrCat("Table 5, pos_", k), false, PositionDelivery::PVG, [k](auto& d) { d.set_last(k); });
  }
  add("Table 6, layer 0 included", false, PositionDelivery::MPVG, [](auto& d) { d.set_first_layer(true); });
  add("Table 6, layer 0 left out", false, PositionDelivery::MPVG, [](auto& d) { d.set_first_layer(false); });
  add("Table 6, flat", false, PositionDelivery::MPVG, [](auto& d) { d.set_layers(PositionDelivery::FLAT); });
  add("Table 6, not added to the input", false, PositionDelivery::MPVG, [](auto& d) { d.set_add_to_input(false); });
  add("Figure 5, average pooling alone", false, PositionDelivery::VIT);
  add("Figure 5, at the last norm only", false, PositionDelivery::VIT, [](auto& d) { d.set_last(0); });
  add("flat, pos_2 at the last norm", false, PositionDelivery::PVG, [](auto& d) {
    d.set_layers(PositionDelivery::FLAT);
    d.set_last(2);
  });
  add("LaPE, pos_3 at the last norm", true, PositionDelivery::LAPE, [](auto& d) { d.set_last(3); });
  return cases;
}

at::Tensor RandomImages(int64_t batch, Size2d size) { return at::randn({batch, 3, size.height, size.width}); }

MacCount CountMacs(Backbone& backbone, Size2d image_size) {
  const at::Tensor image =
      at::empty({1, 3, image_size.height, image_size.width}, at::TensorOptions().device(at::kMeta));
  return CountMacs(backbone.Parameters(), [&] { backbone.Forward(image); });
}

void ExpectGradients(Backbone& backbone, const at::Tensor& images) {
  const at::Tensor tokens = backbone.Forward(images).tokens;
  tokens.mul(at::randn(tokens.sizes())).sum().backward();
  for (const NamedParameter& parameter : backbone.Parameters()) {
    ASSERT_EQ(parameter.trainable, parameter.tensor.grad().defined()) << parameter.name;
    if (!parameter.trainable) continue;
    EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
    EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 0) << parameter.name;
  }
}

void ExpectRandomInTrainModeOnly(Backbone& backbone, const at::Tensor& images) {
  backbone.SetTraining(true);
  EXPECT_FALSE(backbone.Forward(images).tokens.equal(backbone.Forward(images).tokens));
  backbone.SetTraining(false);
  EXPECT_TRUE(backbone.Forward(images).tokens.equal(backbone.Forward(images).tokens));
}

namespace {

// What a pass leaves behind, by name.
struct Pass {
  std::map<std::string, at::Tensor> results;
  int64_t checkpointed_layers = 0;
};

Pass Run(Backbone& backbone, const at::Tensor& images, std::optional<at::ScalarType> dtype, bool checkpointing) {
  thread_local int64_t layers;
  layers = 0;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
        layers += std::string_view(call.name()) == "CheckpointedLayer";
        return nullptr;
      }).scopes({at::RecordScope::BACKWARD_FUNCTION}));
  at::manual_seed(2);
  Pass pass;
  const at::Tensor input = images.detach().requires_grad_(true);
  at::Tensor tokens;
  {
    std::optional<ActivationCheckpointingScope> scope;
    if (checkpointing) scope.emplace();
    const Autocast autocast(dtype, at::kCPU);
    tokens = backbone.Forward(input).tokens;
  }
  tokens.mul(at::randn(tokens.sizes())).sum().backward();
  at::removeCallback(handle);
  pass.checkpointed_layers = layers;
  pass.results["tokens"] = tokens.detach();
  pass.results["gradient of the images"] = input.grad();
  for (const NamedParameter& parameter : backbone.Parameters()) {
    pass.results["gradient of " + parameter.name] = parameter.tensor.grad();
  }
  for (const NamedBuffer& buffer : backbone.Buffers()) pass.results[buffer.name] = buffer.tensor;
  return pass;
}

}  // namespace

int64_t ExpectCheckpointingChangesNothing(const std::function<std::unique_ptr<Backbone>()>& make,
                                          const at::Tensor& images) {
  int64_t layers = 0;
  for (const std::optional<at::ScalarType> dtype : {std::optional<at::ScalarType>(), {at::kBFloat16}, {at::kHalf}}) {
    const std::unique_ptr<Backbone> plain_model = make(), model = make();
    const Pass plain = Run(*plain_model, images, dtype, /*checkpointing=*/false);
    const Pass pass = Run(*model, images, dtype, /*checkpointing=*/true);
    EXPECT_EQ(plain.checkpointed_layers, 0);
    layers = pass.checkpointed_layers;
    for (const auto& [name, expected] : plain.results) {
      const at::Tensor& found = pass.results.at(name);
      EXPECT_EQ(expected.defined(), found.defined()) << name;
      if (expected.defined() && found.defined()) EXPECT_TRUE(expected.equal(found)) << name;
    }
  }
  return layers;
}

Safetensors Fixture(const std::string& backbone, const std::string& name) {
  return ReadFixture(absl::StrCat("backbones/", backbone, "/testdata/", name, ".safetensors"));
}

namespace {

WeightLayout FindLayout(const Backbone& backbone, const std::string& name) {
  if (name.empty()) return {.name_there = [](const std::string& ours) { return ours; }};
  for (const WeightLayout& layout : backbone.Layouts()) {
    if (layout.name == name) return layout;
  }
  LOG(FATAL) << "no layout is called " << name;
}

}  // namespace

void ExpectParity(const Safetensors& fixture, const google::protobuf::Message& config, const BackboneContext& context,
                  const ParityOptions& options) {
  const auto backbone = Build(config, context);
  backbone->SetTraining(options.training);
  const WeightLayout layout = FindLayout(*backbone, options.layout);
  std::set<std::string> used;
  const auto find = [&](const std::string& name) {
    used.insert(name);
    return fixture.Find(name);
  };
  {
    c10::NoGradGuard no_grad;
    for (const auto& [ours, tensor] : ByName(*backbone)) {
      const at::Tensor loaded = find(layout.name_there(ours));
      ASSERT_TRUE(loaded.defined()) << "not there: " << ours;
      ASSERT_EQ(loaded.sizes(), tensor.sizes()) << ours;
      at::Tensor(tensor).copy_(loaded);
    }
  }
  std::vector<NamedParameter> parameters = backbone->Parameters();
  // A weight that is not the backbone's.
  const auto add = [&](const std::string& ours) {
    const at::Tensor tensor = find(layout.name_there(ours)).requires_grad_(true);
    parameters.push_back({.name = ours, .tensor = tensor, .decay = true, .trainable = true});
    return tensor;
  };

  const at::Tensor tokens = backbone->Forward(find("images")).tokens;
  EXPECT_LT(LargestDifference(tokens, find("tokens")), 5e-5);
  at::Tensor pooled = context.contract.class_token ? tokens.select(1, 0) : tokens.mean(1);
  if (options.seq_pool) {
    const at::Tensor weight = add("pooling.attention_pool.weight"), bias = add("pooling.attention_pool.bias");
    pooled = at::softmax(at::linear(tokens, weight, bias), 1).mul(tokens).sum(1);
  }
  const at::Tensor weight = add(backbone->HeadName() + ".weight"), bias = add(backbone->HeadName() + ".bias");
  const at::Tensor logits = at::linear(pooled, weight, bias);
  EXPECT_LT(LargestDifference(logits, find("logits")), 5e-5);

  logits.square().mean().backward();
  const auto expected_gradient = [&](const NamedParameter& parameter) {
    return find("grad/" + layout.name_there(parameter.name));
  };
  double rounding = 0;
  for (const NamedParameter& parameter : parameters) {
    const at::Tensor expected = expected_gradient(parameter);
    ASSERT_EQ(expected.defined(), parameter.trainable) << parameter.name;
    ASSERT_EQ(parameter.tensor.grad().defined(), parameter.trainable) << parameter.name;
    if (expected.defined()) rounding = std::max(rounding, options.rounding * expected.abs().max().item<double>());
  }
  for (const NamedParameter& parameter : parameters) {
    if (!parameter.trainable) continue;
    const at::Tensor expected = expected_gradient(parameter);
    const double difference = parameter.tensor.grad().sub(expected).norm().item<double>();
    EXPECT_LE(difference, 1e-3 * expected.norm().item<double>() + rounding) << parameter.name;
  }
  if (options.training) {
    for (const NamedBuffer& buffer : backbone->Buffers()) {
      EXPECT_TRUE(buffer.tensor.allclose(find("after/" + buffer.name), 1e-5, 1e-6)) << buffer.name;
    }
  }
  for (const auto& [name, tensor] : fixture.tensors) {
    EXPECT_TRUE(used.contains(name) || layout.is_derived(name)) << "not in this model: " << name;
  }
}

PlainModel::PlainModel(const Module& module, double epsilon) : epsilon_(epsilon) {
  for (const auto& [name, tensor] : ByName(module)) weights_[name] = tensor.detach().to(at::kDouble);
}

at::Tensor PlainModel::Sum(const at::Tensor& x, const at::Tensor& position) {
  return position.defined() ? x + position : x;
}

at::Tensor PlainModel::Gelu(const at::Tensor& x) { return x * 0.5 * (1 + (x / std::sqrt(2.0)).erf()); }

at::Tensor PlainModel::Norm(const at::Tensor& x, const std::string& name) const {
  const at::Tensor centred = x - x.mean(-1, /*keepdim=*/true);
  const at::Tensor variance = (centred * centred).mean(-1, /*keepdim=*/true);
  return centred / (variance + epsilon_).sqrt() * W(name + ".weight") + W(name + ".bias");
}

at::Tensor PlainModel::Affine(const at::Tensor& x, const std::string& name) const {
  const at::Tensor y = x.matmul(W(name + ".weight").flatten(1).t());
  return Has(name + ".bias") ? y + W(name + ".bias") : y;
}

at::Tensor PlainModel::Patches(const at::Tensor& images, const std::string& name, int64_t patch_size) const {
  return at::conv2d(images.to(at::kDouble), W(name + ".weight"), W(name + ".bias"), patch_size)
      .flatten(2)
      .transpose(1, 2);
}

at::Tensor PlainModel::WithClassToken(const at::Tensor& x, const std::string& name) const {
  return Has(name) ? at::cat({W(name).expand({x.size(0), 1, -1}), x}, 1) : x;
}

at::Tensor PlainModel::SelfAttention(const at::Tensor& x, const std::string& name, const Attention& attention) const {
  const int64_t width = x.size(-1), size = width / attention.heads;
  const at::Tensor qkv = Affine(x, name + ".qkv");
  std::vector<at::Tensor> of_heads;
  for (int64_t head = 0; head < attention.heads; ++head) {
    const auto part = [&](int64_t which) { return qkv.narrow(-1, which * width + head * size, size); };
    at::Tensor logits = part(0).matmul(part(1).transpose(-2, -1)) / std::sqrt(static_cast<double>(size));
    if (attention.bias.defined()) {
      logits = logits + (attention.bias.dim() == 3 ? attention.bias.select(0, head) : attention.bias);
    }
    const at::Tensor weights = logits.exp();
    of_heads.push_back(weights.matmul(part(2)) / weights.sum(-1, /*keepdim=*/true));
  }
  return Affine(attention.interleaved ? at::stack(of_heads, -1).flatten(-2) : at::cat(of_heads, -1), name + ".proj");
}

at::Tensor PlainModel::Block(const at::Tensor& x, const std::string& name, const at::Tensor& position,
                             const Attention& attention) const {
  const at::Tensor y = x + SelfAttention(Sum(Norm(x, name + ".norm1"), position), name + ".attn", attention);
  return y + Affine(Gelu(Affine(Norm(y, name + ".norm2"), name + ".mlp.fc1")), name + ".mlp.fc2");
}

PlainModel::Positions PlainModel::Deliver(const at::Tensor& pos_0, const PositionDelivery& delivery, int depth,
                                          bool first_layer) const {
  Positions positions{.at_layers = std::vector<at::Tensor>(depth)};
  if (!pos_0.defined()) return positions;
  if (delivery.add_to_input()) positions.at_input = pos_0;
  if (delivery.has_first_layer()) first_layer = delivery.first_layer();
  at::Tensor previous = pos_0;
  for (int layer = first_layer ? 0 : 1; layer < depth && delivery.layers() != PositionDelivery::NONE; ++layer) {
    const at::Tensor& from = delivery.layers() == PositionDelivery::FLAT ? pos_0 : previous;
    previous = Norm(from, absl::StrCat("pos_norms.", layer));
    positions.at_layers[layer] = previous;
  }
  if (delivery.has_last()) {
    positions.at_last_norm = Norm(delivery.last() == 0 ? pos_0 : positions.at_layers[delivery.last()], "last_pos_norm");
  }
  return positions;
}

}  // namespace graticule
