#include "backbones/ceit/ceit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/max_pool2d.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros_like.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

BackboneContext Context(Size2d image_size, bool class_token, const PositionDelivery& delivery) {
  return {.image_size = image_size, .contract = {.class_token = class_token, .delivery = delivery}};
}

PositionDelivery Preset(PositionDelivery::Preset preset) { return ResolvePositionDelivery({}, preset); }

std::unique_ptr<Backbone> Build(const Ceit& config, const BackboneContext& context) {
  auto backbone = Registry<Backbone>::Create(config, context);
  CHECK(backbone.ok()) << backbone.status();
  return std::move(*backbone);
}

std::map<std::string, at::Tensor> ByName(const Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const NamedParameter& parameter : module.Parameters()) tensors[parameter.name] = parameter.tensor;
  for (const NamedBuffer& buffer : module.Buffers()) tensors[buffer.name] = buffer.tensor;
  return tensors;
}

// Weights and moving averages under which every part of the model matters.
void Randomize(const Module& module) {
  c10::NoGradGuard no_grad;
  for (auto& [name, tensor] : ByName(module)) {
    if (!tensor.is_floating_point()) continue;
    tensor.normal_(0, 0.4);
    const bool is_norm_scale = tensor.dim() == 1 && name.ends_with("weight");
    if (is_norm_scale) tensor.add_(1);
    if (name.ends_with("running_var")) tensor.exp_();
  }
}

// ---- Published sizes ------------------------------------------------------------------------------------------------

Ceit Published(int width, int heads) {
  Ceit config;
  config.set_embed_dim(width);
  config.set_num_heads(heads);
  return config;
}

// The counts of the papers' tables, to the last parameter.
TEST(CeitTest, HasThePublishedNumberOfParameters) {
  struct Count {
    int width;
    int heads;
    PositionDelivery::Preset preset;
    int64_t parameters;  // with a head of 1000 classes
  };
  const std::vector<Count> counts = {
      {192, 3, PositionDelivery::VIT, 6'356'904},  {192, 3, PositionDelivery::LAPE, 6'361'512},
      {192, 3, PositionDelivery::PVG, 6'361'128},  {192, 3, PositionDelivery::MPVG, 6'361'512},
      {384, 6, PositionDelivery::VIT, 24'204'840}, {384, 6, PositionDelivery::LAPE, 24'214'056},
      {384, 6, PositionDelivery::PVG, 24'213'288}, {384, 6, PositionDelivery::MPVG, 24'214'056},
  };
  const MetaScope meta;
  for (const Count& count : counts) {
    const bool class_token = count.preset == PositionDelivery::VIT || count.preset == PositionDelivery::LAPE;
    const auto backbone =
        Build(Published(count.width, count.heads), Context({224, 224}, class_token, Preset(count.preset)));
    EXPECT_EQ(backbone->ParameterCount() + count.width * 1000 + 1000, count.parameters)
        << count.width << " " << PositionDelivery::Preset_Name(count.preset);
  }
}

// Multiply-adds of the official code, counted by PyTorch (tools/parity/make_ceit_fixtures.py --macs).
TEST(CeitTest, HasTheMultiplyAddsOfTheOfficialModels) {
  struct Count {
    int width;
    int heads;
    int64_t macs;  // with a head of 1000 classes
  };
  const MetaScope meta;
  for (const Count& count : {Count{192, 3, 1'395'307'008}, Count{384, 6, 4'759'544'832}}) {
    const auto backbone =
        Build(Published(count.width, count.heads), Context({224, 224}, true, Preset(PositionDelivery::VIT)));
    const at::Tensor images = at::empty({1, 3, 224, 224}, at::TensorOptions().device(at::kMeta));
    const MacCount macs = CountMacs(backbone->Parameters(), [&] { backbone->Forward(images); });
    EXPECT_NEAR(macs.total + count.width * 1000, count.macs, 0.001 * count.macs);
  }
}

TEST(CeitTest, DecaysWhatTheOfficialCodeDecays) {
  Ceit config;
  config.set_depth(2);
  const auto backbone = Build(config, Context({32, 32}, true, Preset(PositionDelivery::LAPE)));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    const bool spared = parameter.tensor.dim() == 1 || parameter.name == "cls_token" || parameter.name == "pos_embed";
    EXPECT_EQ(parameter.decay, !spared) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

// The model in evaluation mode, written out in double for a single image.
class PlainCeit {
 public:
  PlainCeit(const Module& module, const Ceit& config, Size2d grid, bool class_token, PositionDelivery delivery)
      : config_(config), grid_(grid), class_token_(class_token), delivery_(delivery) {
    for (const auto& [name, tensor] : ByName(module)) weights_[name] = tensor.detach().to(at::kDouble);
  }

  // image [3,H,W] to tokens [T,D].
  at::Tensor Tokens(const at::Tensor& image) const {
    at::Tensor x = Stem(image.to(at::kDouble));
    if (class_token_) x = at::cat({W("cls_token")[0], x});
    const at::Tensor pos_0 = W("pos_embed")[0];
    if (delivery_.add_to_input()) x = x + pos_0;

    std::vector<at::Tensor> of_layers;
    at::Tensor pos = pos_0;
    for (int l = 0; l < config_.depth(); ++l) {
      const std::string block = absl::StrCat("blocks.", l, ".");
      at::Tensor normed = Norm(x, block + "norm1");
      const bool first_layer = !delivery_.has_first_layer() || delivery_.first_layer();
      if (delivery_.layers() != PositionDelivery::NONE && (l > 0 || first_layer)) {
        pos = Norm(delivery_.layers() == PositionDelivery::FLAT ? pos_0 : pos, absl::StrCat("pos_norms.", l));
        normed = normed + pos;
      }
      x = x + Attend(normed, normed, block + "attn.");
      x = x + FeedForward(Norm(x, block + "norm2"), block + "leff.");
      of_layers.push_back(x);
    }

    if (class_token_) {
      x[0] = LastOf(of_layers, [](const at::Tensor& layer) { return layer[0]; });
    } else if (config_.average_lca() == Ceit::EACH_TOKEN) {
      for (int64_t i = 0; i < x.size(0); ++i) {
        x[i] = LastOf(of_layers, [&](const at::Tensor& layer) { return layer[i]; });
      }
    } else {
      const at::Tensor mean = LastOf(of_layers, [](const at::Tensor& layer) { return layer.mean(0); });
      x = x - x.mean(0) + mean;
    }
    at::Tensor y = Norm(x, "norm");
    if (delivery_.has_last()) y = y + Norm(pos_0, "last_pos_norm");
    return y;
  }

 private:
  at::Tensor W(const std::string& name) const { return weights_.at(name); }

  static at::Tensor Gelu(const at::Tensor& x) { return x * 0.5 * (1 + (x / std::sqrt(2.0)).erf()); }

  at::Tensor Norm(const at::Tensor& x, const std::string& name) const {
    const at::Tensor centred = x - x.mean(-1, true);
    const at::Tensor variance = (centred * centred).mean(-1, true);
    return centred / (variance + 1e-6).sqrt() * W(name + ".weight") + W(name + ".bias");
  }

  // Over the channels, the last axis.
  at::Tensor BatchNormed(const at::Tensor& x, const std::string& name) const {
    return (x - W(name + ".running_mean")) / (W(name + ".running_var") + 1e-5).sqrt() * W(name + ".weight") +
           W(name + ".bias");
  }

  at::Tensor Affine(const at::Tensor& x, const std::string& name) const {
    return x.matmul(W(name + ".weight").flatten(1).t()) + W(name + ".bias");
  }

  at::Tensor Stem(const at::Tensor& image) const {
    at::Tensor map = at::conv2d(image.unsqueeze(0), W("i2t.backbone.conv.weight"), {}, 2, 3);
    map = BatchNormed(map.permute({0, 2, 3, 1}), "i2t.backbone.bn").permute({0, 3, 1, 2});
    map = at::max_pool2d(map, 3, 2, 1);
    map = at::conv2d(map, W("i2t.proj.weight"), W("i2t.proj.bias"), config_.patch_size() / 4);
    return map[0].flatten(1).t();
  }

  // What the tokens `from` [F,D] get out of the tokens `to` [T,D].
  at::Tensor Attend(const at::Tensor& from, const at::Tensor& to, const std::string& name) const {
    const int64_t width = from.size(1), size = width / config_.num_heads();
    const at::Tensor q = Affine(from, name + "qkv"), kv = Affine(to, name + "qkv");
    std::vector<at::Tensor> heads;
    for (int64_t first = 0; first < width; first += size) {
      const auto part = [&](const at::Tensor& qkv, int64_t which) {
        return qkv.narrow(1, which * width + first, size);
      };
      const at::Tensor weights = (part(q, 0).matmul(part(kv, 1).t()) / std::sqrt(size)).exp();
      heads.push_back(weights.matmul(part(kv, 2)) / weights.sum(1, true));
    }
    return Affine(at::cat(heads, 1), name + "proj");
  }

  at::Tensor FeedForward(const at::Tensor& x, const std::string& name) const {
    const int64_t prefix = class_token_ ? 1 : 0, reach = config_.leff_kernel_size() / 2;
    const at::Tensor patches = x.narrow(0, prefix, grid_.area());
    const at::Tensor hidden = Gelu(BatchNormed(Affine(patches, name + "conv1"), name + "bn1"));
    at::Tensor mixed = at::zeros_like(hidden);
    for (int64_t i = 0; i < grid_.area(); ++i) {
      mixed[i] += W(name + "conv2.bias");
      for (int64_t j = 0; j < grid_.area(); ++j) {
        const int64_t dy = j / grid_.width - i / grid_.width, dx = j % grid_.width - i % grid_.width;
        if (std::abs(dy) > reach || std::abs(dx) > reach) continue;
        mixed[i] += hidden[j] * W(name + "conv2.weight").select(1, 0).select(1, dy + reach).select(1, dx + reach);
      }
    }
    mixed = Gelu(BatchNormed(mixed, name + "bn2"));
    return at::cat({x.narrow(0, 0, prefix), BatchNormed(Affine(mixed, name + "conv3"), name + "bn3")});
  }

  // LCA on the token of each layer that `token` finds.
  at::Tensor LastOf(const std::vector<at::Tensor>& of_layers,
                    const std::function<at::Tensor(const at::Tensor&)>& token) const {
    std::vector<at::Tensor> tokens;
    for (const at::Tensor& layer : of_layers) tokens.push_back(token(layer));
    const at::Tensor all = at::stack(tokens) + W("pos_layer_embed")[0];
    const at::Tensor last = all.narrow(0, config_.depth() - 1, 1);
    const at::Tensor attended = last + Attend(Norm(last, "lca.norm1"), Norm(all, "lca.norm1"), "lca.attn.");
    const at::Tensor hidden = Gelu(Affine(Norm(attended, "lca.norm2"), "lca.feedforward.fc1"));
    return (attended + Affine(hidden, "lca.feedforward.fc2"))[0];
  }

  std::map<std::string, at::Tensor> weights_;
  Ceit config_;
  Size2d grid_;
  bool class_token_;
  PositionDelivery delivery_;
};

struct Case {
  std::string name;
  bool class_token;
  PositionDelivery delivery;
  Ceit::AverageLca average_lca = Ceit::MEAN_TOKEN;
};

std::vector<Case> Cases() {
  PositionDelivery not_the_first = Preset(PositionDelivery::PVG);
  not_the_first.set_first_layer(false);
  PositionDelivery flat = Preset(PositionDelivery::MPVG);
  flat.set_layers(PositionDelivery::FLAT);
  return {
      {"default", true, Preset(PositionDelivery::VIT)},
      {"LaPE", true, Preset(PositionDelivery::LAPE)},
      {"MPVG with class token", true, Preset(PositionDelivery::MPVG)},
      {"average", false, Preset(PositionDelivery::VIT)},
      {"average LaPE", false, Preset(PositionDelivery::LAPE)},
      {"PVG", false, Preset(PositionDelivery::PVG)},
      {"PVG but for layer 0", false, not_the_first},
      {"MPVG", false, Preset(PositionDelivery::MPVG)},
      {"MPVG, flat", false, flat},
      {"MPVG, LCA of each token", false, Preset(PositionDelivery::MPVG), Ceit::EACH_TOKEN},
  };
}

constexpr Size2d kImage = {16, 24};  // 2×3 patches

Ceit SmallConfig() {
  Ceit config;
  config.set_patch_size(8);
  config.set_stem_width(4);
  config.set_embed_dim(8);
  config.set_depth(3);
  config.set_num_heads(2);
  config.set_mlp_ratio(2);
  config.set_leff_kernel_size(3);
  return config;
}

TEST(CeitTest, ComputesTheEquations) {
  c10::NoGradGuard no_grad;
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    Ceit config = SmallConfig();
    config.set_average_lca(c.average_lca);
    const auto backbone = Build(config, Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    backbone->SetTraining(false);
    const at::Tensor images = at::randn({2, 3, kImage.height, kImage.width});
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, (c.class_token ? 1 : 0) + 6, 8}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    const PlainCeit plain(*backbone, config, map.grid, c.class_token, c.delivery);
    for (int image = 0; image < 2; ++image) {
      EXPECT_LT((map.tokens[image] - plain.Tokens(images[image])).abs().max().item<double>(), 5e-5);
    }
  }
}

TEST(CeitTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    Ceit config = SmallConfig();
    config.set_average_lca(c.average_lca);
    const auto backbone = Build(config, Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor tokens = backbone->Forward(at::randn({2, 3, kImage.height, kImage.width})).tokens;
    (tokens * at::randn(tokens.sizes())).sum().backward();
    for (const NamedParameter& parameter : backbone->Parameters()) {
      ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
      EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
      EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 0) << parameter.name;
    }
  }
}

// ---- The official code ----------------------------------------------------------------------------------------------

// The official model and this one, with the same weights: tokens, logits, the gradients of the mean of the squared
// logits, and in train mode the moving averages after the step.
void ExpectParity(const std::string& name, const Ceit& config, bool training) {
  const auto fixture = ReadSafetensors(absl::StrCat("backbones/ceit/testdata/", name, ".safetensors"));
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  const auto backbone = Build(config, Context({32, 32}, true, Preset(PositionDelivery::VIT)));
  backbone->SetTraining(training);
  const std::map<std::string, at::Tensor> own = ByName(*backbone);
  {
    c10::NoGradGuard no_grad;
    for (const auto& [ours, tensor] : own) {
      const at::Tensor loaded = fixture->Find(ours);
      ASSERT_TRUE(loaded.defined()) << "the official model has no " << ours;
      ASSERT_EQ(loaded.sizes(), tensor.sizes()) << ours;
      at::Tensor(tensor).copy_(loaded);
    }
  }
  const std::set<std::string> results = {"images", "tokens", "logits", "head.weight", "head.bias"};
  for (const auto& [tensor, unused] : fixture->tensors) {
    const bool is_result = results.contains(tensor) || tensor.starts_with("grad/") || tensor.starts_with("after/");
    EXPECT_TRUE(is_result || own.contains(tensor)) << "not in this model: " << tensor;
  }

  const at::Tensor head_weight = fixture->Find("head.weight").requires_grad_(true);
  const at::Tensor head_bias = fixture->Find("head.bias").requires_grad_(true);
  const TokenMap map = backbone->Forward(fixture->Find("images"));
  EXPECT_LT((map.tokens - fixture->Find("tokens")).abs().max().item<double>(), 5e-5);
  const at::Tensor logits = at::linear(map.tokens.select(1, 0), head_weight, head_bias);
  EXPECT_LT((logits - fixture->Find("logits")).abs().max().item<double>(), 5e-5);

  logits.square().mean().backward();
  std::vector<NamedParameter> parameters = backbone->Parameters();
  parameters.push_back({"head.weight", head_weight, true, true});
  parameters.push_back({"head.bias", head_bias, true, true});
  // Scale to which rounding is relative where a gradient is 0 but for it: biases before a norm over the batch.
  double largest = 0;
  for (const NamedParameter& parameter : parameters) {
    largest = std::max(largest, fixture->Find("grad/" + parameter.name).abs().max().item<double>());
  }
  for (const NamedParameter& parameter : parameters) {
    const at::Tensor expected = fixture->Find("grad/" + parameter.name);
    const double difference = (parameter.tensor.grad() - expected).norm().item<double>();
    EXPECT_LE(difference, 1e-3 * expected.norm().item<double>() + 1e-6 * largest) << parameter.name;
  }
  if (!training) return;
  for (const NamedBuffer& buffer : backbone->Buffers()) {
    EXPECT_TRUE(buffer.tensor.allclose(fixture->Find("after/" + buffer.name), 1e-5, 1e-6)) << buffer.name;
  }
}

Ceit FixtureConfig() {
  Ceit config;
  config.set_patch_size(8);
  config.set_stem_width(6);
  config.set_embed_dim(12);
  config.set_depth(3);
  config.set_num_heads(3);
  config.set_mlp_ratio(2);
  return config;
}

TEST(CeitParityTest, Evaluation) { ExpectParity("eval", FixtureConfig(), /*training=*/false); }

TEST(CeitParityTest, Training) { ExpectParity("train", FixtureConfig(), /*training=*/true); }

TEST(CeitParityTest, WiderConvolutionWithoutQkvBias) {
  Ceit config = FixtureConfig();
  config.set_leff_kernel_size(5);
  config.set_qkv_bias(false);
  ExpectParity("kernel_5", config, /*training=*/false);
}

// ---- Construction ---------------------------------------------------------------------------------------------------

TEST(CeitTest, AdaptsPositionsOfAnotherGrid) {
  const auto backbone = Build(SmallConfig(), Context(kImage, true, Preset(PositionDelivery::VIT)));
  const at::Tensor table = at::randn({1, 1 + 4 * 4, 8});
  const at::Tensor adapted = backbone->Adapt("pos_embed", table);
  ASSERT_EQ(adapted.sizes(), (at::IntArrayRef{1, 7, 8}));
  EXPECT_TRUE(adapted.select(1, 0).equal(table.select(1, 0)));
  const auto average = Build(SmallConfig(), Context(kImage, false, Preset(PositionDelivery::MPVG)));
  EXPECT_TRUE(average->Adapt("pos_embed", table).equal(adapted.narrow(1, 1, 6)));
  EXPECT_FALSE(backbone->Adapt("pos_layer_embed", at::randn({1, 12, 8})).defined());
}

TEST(CeitTest, StartsAsTheOfficialCode) {
  const auto backbone = Build(Published(192, 3), Context({224, 224}, true, Preset(PositionDelivery::VIT)));
  const auto weights = ByName(*backbone);
  for (const std::string name : {"pos_embed", "blocks.3.attn.qkv.weight", "lca.feedforward.fc1.weight"}) {
    EXPECT_NEAR(weights.at(name).std().item<double>(), 0.02, 0.0005) << name;
  }
  EXPECT_EQ(weights.at("pos_layer_embed").abs().max().item<double>(), 0);
  // PyTorch's: uniform within ±1/√(inputs of an output).
  for (const auto& [name, inputs] : {std::pair("i2t.backbone.conv.weight", 3 * 7 * 7),
                                     {"i2t.proj.weight", 64 * 4 * 4},
                                     {"blocks.3.leff.conv1.weight", 192},
                                     {"blocks.3.leff.conv2.weight", 9}}) {
    EXPECT_NEAR(weights.at(name).std().item<double>(), 1 / std::sqrt(3.0 * inputs), 0.02 / std::sqrt(inputs)) << name;
    EXPECT_LE(weights.at(name).abs().max().item<double>(), 1 / std::sqrt(inputs)) << name;
  }
}

TEST(CeitTest, DropoutAndDropPathActInTrainModeOnly) {
  Ceit config = SmallConfig();
  config.set_drop_path_rate(0.5);
  config.set_position_dropout(0.1);
  config.set_projection_dropout(0.1);
  config.set_attention_dropout(0.1);
  const auto backbone = Build(config, Context(kImage, false, Preset(PositionDelivery::MPVG)));
  Randomize(*backbone);
  const at::Tensor images = at::randn({2, 3, kImage.height, kImage.width});
  EXPECT_FALSE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
  backbone->SetTraining(false);
  EXPECT_TRUE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
}

std::map<std::string, std::string> Errors(const Ceit& config, const BackboneContext& context) {
  std::map<std::string, std::string> errors;
  const auto backbone = Registry<Backbone>::Create(config, context);
  for (const FieldError& error : FieldErrors::FromStatus(backbone.status())) errors[error.path] = error.message;
  return errors;
}

TEST(CeitErrorsTest, ImagesThatTheTokensDoNotTile) {
  auto errors = Errors(Ceit(), Context({224, 230}, true, Preset(PositionDelivery::VIT)));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(
      errors["patch_size"],
      "patches of 16 don't tile images of 224×230 (height×width); the nearest sizes that they tile are height 224 "
      "and width 224 or 240");
  Ceit config;
  config.set_patch_size(14);
  errors = Errors(config, Context({224, 224}, true, Preset(PositionDelivery::VIT)));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(errors["patch_size"], "must be a multiple of 4, found 14");
}

TEST(CeitErrorsTest, AllMistakesComeTogether) {
  Ceit config;
  config.set_patch_size(0);
  config.set_stem_width(-1);
  config.set_embed_dim(10);
  config.set_num_heads(4);
  config.set_depth(2'000'000'000);
  config.set_mlp_ratio(0);
  config.set_leff_kernel_size(4);
  config.set_drop_path_rate(1);
  config.set_attention_dropout(-0.1);
  config.set_norm_epsilon(0);
  const auto errors = Errors(config, Context({224, 224}, true, Preset(PositionDelivery::VIT)));
  std::set<std::string> paths;
  for (const auto& [path, message] : errors) paths.insert(path);
  EXPECT_EQ(paths, (std::set<std::string>{"patch_size", "stem_width", "num_heads", "depth", "mlp_ratio",
                                          "leff_kernel_size", "drop_path_rate", "attention_dropout", "norm_epsilon"}));
}

TEST(CeitErrorsTest, AContractThatTheModelCannotMeet) {
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(12);
  EXPECT_TRUE(Errors(Ceit(), Context({224, 224}, false, delivery)).contains("depth"));
  BackboneContext context = Context({224, 224}, true, Preset(PositionDelivery::VIT));
  context.contract.distillation_token = true;
  EXPECT_EQ(Errors(Ceit(), context).size(), 1);
}

}  // namespace
}  // namespace graticule
