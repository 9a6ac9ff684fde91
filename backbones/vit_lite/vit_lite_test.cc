#include "backbones/vit_lite/vit_lite.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/erf.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/matmul.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/softmax.h"
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

BackboneContext Cifar(bool class_token, PositionDelivery::Preset preset = PositionDelivery::VIT) {
  return Context({32, 32}, class_token, Preset(preset));
}

std::unique_ptr<Backbone> Build(const VitLite& config, const BackboneContext& context) {
  auto backbone = Registry<Backbone>::Create(config, context);
  CHECK(backbone.ok()) << backbone.status();
  return std::move(*backbone);
}

std::map<std::string, at::Tensor> ByName(const Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const NamedParameter& parameter : module.Parameters()) tensors[parameter.name] = parameter.tensor;
  return tensors;
}

VitLite ViTLite6() {
  VitLite config;
  config.set_depth(6);
  return config;
}

VitLite Cct7() {
  VitLite config;
  config.mutable_convolutions();
  return config;
}

// ---- Published figures ----------------------------------------------------------------------------------------------

constexpr int64_t kSeqPool = 256 + 1;
int64_t Head(int64_t classes) { return 256 * classes + classes; }

TEST(VitLiteTest, HasThePublishedNumberOfParameters) {
  const MetaScope meta;
  const auto count = [](const VitLite& config, const BackboneContext& context) {
    return Build(config, context)->ParameterCount();
  };
  EXPECT_EQ(count({}, Cifar(true)) + Head(10), 3'716'874);
  EXPECT_EQ(count({}, Cifar(true)) + Head(100), 3'740'004);
  EXPECT_EQ(count(ViTLite6(), Cifar(true)) + Head(10), 3'190'538);
  EXPECT_EQ(count({}, Cifar(false)) + kSeqPool + Head(10), 3'716'619);
  EXPECT_EQ(count({}, Cifar(false)) + kSeqPool + Head(100), 3'739'749);
  EXPECT_EQ(count(Cct7(), Cifar(false)) + kSeqPool + Head(10), 3'760'139);
  EXPECT_EQ(count(Cct7(), Cifar(false)) + kSeqPool + Head(100), 3'783'269);
  VitLite cct_7_3x2 = Cct7();
  cct_7_3x2.mutable_convolutions()->set_layers(2);
  EXPECT_EQ(count(cct_7_3x2, Cifar(false)) + kSeqPool + Head(10), 3'853'259);
  // The MPVG paper's, CIFAR-100.
  EXPECT_EQ(count({}, Cifar(true, PositionDelivery::LAPE)) + Head(100), 3'743'588);
  EXPECT_EQ(count({}, Cifar(false, PositionDelivery::PVG)) + Head(100), 3'742'564);
  EXPECT_EQ(count({}, Cifar(false, PositionDelivery::MPVG)) + Head(100), 3'743'076);
}

// The published figures are of the weights' products: they leave out the two of the attention itself.
TEST(VitLiteTest, HasThePublishedNumberOfMultiplyAdds) {
  const MetaScope meta;
  const auto macs = [](const VitLite& config, bool class_token) {
    const auto backbone = Build(config, Cifar(class_token));
    backbone->SetTraining(false);
    const at::Tensor image = at::randn({1, 3, 32, 32}, at::TensorOptions().device(at::kMeta));
    const MacCount count = CountMacs(backbone->Parameters(), [&] { backbone->Forward(image); });
    return static_cast<double>(count.total - count.by_operator.at("scaled_dot_product_attention")) / 1e9;
  };
  EXPECT_NEAR(macs({}, true), 0.239, 0.001);
  EXPECT_NEAR(macs(ViTLite6(), true), 0.205, 0.001);
  EXPECT_NEAR(macs({}, false), 0.236, 0.001);
  EXPECT_NEAR(macs(Cct7(), false), 0.947, 0.001);
}

// ---- The equations --------------------------------------------------------------------------------------------------

// The model written out plainly, in double.
class PlainVitLite {
 public:
  PlainVitLite(const Module& module, int depth, int heads, PositionDelivery delivery)
      : depth_(depth), heads_(heads), delivery_(std::move(delivery)) {
    for (const auto& [name, tensor] : ByName(module)) weights_[name] = tensor.detach().to(at::kDouble);
  }

  at::Tensor Tokens(const at::Tensor& images, int patch) const {
    at::Tensor x = at::conv2d(images.to(at::kDouble), Get("tokenizer.conv_layers.0.0.weight"),
                              Get("tokenizer.conv_layers.0.0.bias"), patch);
    x = x.flatten(2).transpose(1, 2);
    if (weights_.contains("classifier.class_emb")) {
      x = at::cat({Get("classifier.class_emb").expand({x.size(0), 1, x.size(2)}), x}, 1);
    }
    const at::Tensor pos_0 = Get("classifier.positional_emb");
    if (delivery_.add_to_input()) x = x + pos_0;

    std::vector<at::Tensor> pos = {pos_0};  // pos[k] = pos_k, where pos_k is what layer k gets
    at::Tensor previous = pos_0;
    for (int l = 0; l < depth_; ++l) {
      const std::string block = absl::StrCat("classifier.blocks.", l, ".");
      at::Tensor normed = Norm(x, block + "pre_norm");
      if (delivery_.layers() != PositionDelivery::NONE && (l > 0 || delivery_.first_layer())) {
        previous = Norm(delivery_.layers() == PositionDelivery::FLAT ? pos_0 : previous, absl::StrCat("pos_norms.", l));
        normed = normed + previous;
      }
      if (l > 0) pos.push_back(previous);
      x = x + SelfAttention(normed, block + "self_attn.");
      x = Norm(x, block + "norm1");
      at::Tensor hidden = Affine(x, block + "linear1");
      hidden = hidden * 0.5 * (at::erf(hidden / std::sqrt(2.0)) + 1);
      x = x + Affine(hidden, block + "linear2");
    }
    at::Tensor y = Norm(x, "classifier.norm");
    if (delivery_.has_last()) y = y + Norm(pos[delivery_.last()], "last_pos_norm");
    return y;
  }

 private:
  const at::Tensor& Get(const std::string& name) const { return weights_.at(name); }

  at::Tensor Norm(const at::Tensor& x, const std::string& name) const {
    const at::Tensor centred = x - x.mean(-1, /*keepdim=*/true);
    const at::Tensor variance = (centred * centred).mean(-1, /*keepdim=*/true);
    return centred / (variance + 1e-5).sqrt() * Get(name + ".weight") + Get(name + ".bias");
  }

  at::Tensor Affine(const at::Tensor& x, const std::string& name) const {
    const at::Tensor y = at::matmul(x, Get(name + ".weight").t());
    return weights_.contains(name + ".bias") ? y + Get(name + ".bias") : y;
  }

  at::Tensor SelfAttention(const at::Tensor& x, const std::string& name) const {
    const int64_t width = x.size(2), size = width / heads_;
    const at::Tensor qkv = Affine(x, name + "qkv");
    std::vector<at::Tensor> outputs;
    for (int head = 0; head < heads_; ++head) {
      const auto part = [&](int which) { return qkv.narrow(2, which * width + head * size, size); };
      const at::Tensor logits = at::matmul(part(0), part(1).transpose(1, 2)) / std::sqrt(static_cast<double>(size));
      const at::Tensor exponentials = logits.exp();
      outputs.push_back(at::matmul(exponentials / exponentials.sum(2, /*keepdim=*/true), part(2)));
    }
    return Affine(at::cat(outputs, 2), name + "proj");
  }

  std::map<std::string, at::Tensor> weights_;
  int depth_, heads_;
  PositionDelivery delivery_;
};

struct Case {
  std::string name;
  bool class_token;
  PositionDelivery delivery;
};

// Every row and ablation of the MPVG paper, at depth 4: layers 0 to 3.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](
                       const std::string& name, bool class_token, PositionDelivery::Preset preset,
                       const std::function<void(PositionDelivery&)>& change = [](PositionDelivery&) {}) {
    cases.push_back({name, class_token, Preset(preset)});
    change(cases.back().delivery);
  };
  add("default", true, PositionDelivery::VIT);
  add("average pooling", false, PositionDelivery::VIT);
  add("LaPE", true, PositionDelivery::LAPE);
  add("PVG", false, PositionDelivery::PVG);
  add("MPVG", false, PositionDelivery::MPVG);
  for (const int k : {1, 2, 3}) {
    add(absl::StrCat("Table 5, pos_", k), false, PositionDelivery::MPVG, [k](auto& d) { d.set_last(k); });
  }
  add("Table 6, layer 0 included", false, PositionDelivery::MPVG, [](auto& d) { d.set_first_layer(true); });
  add("Table 6, flat", false, PositionDelivery::MPVG, [](auto& d) { d.set_layers(PositionDelivery::FLAT); });
  add("Table 6, not added to the input", false, PositionDelivery::MPVG, [](auto& d) { d.set_add_to_input(false); });
  add("Figure 5, at the last norm only", false, PositionDelivery::VIT, [](auto& d) { d.set_last(0); });
  return cases;
}

constexpr Size2d kImage = {8, 12};  // 2×3 patches

VitLite SmallConfig() {
  VitLite config;
  config.set_embed_dim(8);
  config.set_depth(4);
  config.set_num_heads(2);
  config.set_drop_path_rate(0);
  config.set_attention_dropout(0);
  return config;
}

// Weights under which every part of the model matters.
void Randomize(const Module& module) {
  c10::NoGradGuard no_grad;
  for (const NamedParameter& parameter : module.Parameters()) {
    at::Tensor tensor = parameter.tensor;
    tensor.normal_(0, 0.4);
    if (tensor.dim() == 1 && parameter.name.ends_with("weight")) tensor.add_(1);  // scales of norms
  }
}

TEST(VitLiteTest, ComputesTheEquations) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor images = at::randn({2, 3, kImage.height, kImage.width});
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, (c.class_token ? 1 : 0) + 6, 8}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    EXPECT_TRUE(map.position.defined());
    const at::Tensor expected = PlainVitLite(*backbone, 4, 2, c.delivery).Tokens(images, 4);
    EXPECT_LT(map.tokens.detach().sub(expected).abs().max().item<double>(), 2e-5);
  }
}

TEST(VitLiteTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor tokens = backbone->Forward(at::randn({2, 3, kImage.height, kImage.width})).tokens;
    tokens.mul(at::randn(tokens.sizes())).sum().backward();
    for (const NamedParameter& parameter : backbone->Parameters()) {
      ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
      EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
      EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 0) << parameter.name;
    }
  }
}

// ---- The official code ----------------------------------------------------------------------------------------------

// The official model and this one, with the same weights: tokens, logits, and the gradients of the mean of the squared
// logits.
void ExpectParity(const std::string& name, const VitLite& config, Size2d image_size, bool class_token) {
  const auto read = ReadSafetensors(absl::StrCat("backbones/vit_lite/testdata/", name, ".safetensors"));
  CHECK(read.ok()) << read.status();
  const Safetensors& fixture = *read;
  const auto backbone = Build(config, Context(image_size, class_token, Preset(PositionDelivery::VIT)));
  backbone->SetTraining(false);
  const std::map<std::string, at::Tensor> fresh = ByName(*backbone);
  if (config.position() == PositionEncoding::SINUSOID_1D) {
    EXPECT_TRUE(fresh.at("classifier.positional_emb")
                    .allclose(fixture.Find("classifier.positional_emb"), /*rtol=*/0, /*atol=*/1e-5));
  }
  std::map<std::string, at::Tensor> parameters = fresh;  // by the official names
  {
    c10::NoGradGuard no_grad;
    for (auto& [parameter, tensor] : parameters) {
      const at::Tensor loaded = fixture.Find(parameter);
      ASSERT_TRUE(loaded.defined()) << "the official code has no " << parameter;
      ASSERT_EQ(loaded.sizes(), tensor.sizes()) << parameter;
      tensor.copy_(loaded);
    }
  }
  for (const auto& [official, tensor] : fixture.tensors) {
    const bool is_pooling = !class_token && official.starts_with("classifier.attention_pool.");
    if (is_pooling || official.starts_with("classifier.fc.")) {
      parameters[official] = fixture.Find(official).requires_grad_(true);
    }
    const bool is_weight = official.starts_with("classifier.") || official.starts_with("tokenizer.");
    EXPECT_TRUE(!is_weight || parameters.contains(official)) << "not in this model: " << official;
  }

  const at::Tensor tokens = backbone->Forward(fixture.Find("images")).tokens;
  EXPECT_LT(tokens.sub(fixture.Find("tokens")).abs().max().item<double>(), 5e-5);
  at::Tensor pooled;
  if (class_token) {
    pooled = tokens.select(1, 0);
  } else {
    const at::Tensor scores = at::linear(tokens, parameters.at("classifier.attention_pool.weight"),
                                         parameters.at("classifier.attention_pool.bias"));
    pooled = at::softmax(scores, 1).mul(tokens).sum(1);
  }
  const at::Tensor logits =
      at::linear(pooled, parameters.at("classifier.fc.weight"), parameters.at("classifier.fc.bias"));
  EXPECT_LT(logits.sub(fixture.Find("logits")).abs().max().item<double>(), 5e-5);

  logits.square().mean().backward();
  int compared = 0;
  for (const auto& [parameter, tensor] : parameters) {
    // Where every token gets the same, a softmax over the tokens doesn't change.
    if (!tensor.requires_grad() || parameter == "classifier.attention_pool.bias") continue;
    const at::Tensor expected = fixture.Find(absl::StrCat("grad/", parameter));
    ASSERT_TRUE(expected.defined()) << parameter;
    const double difference = tensor.grad().sub(expected).norm().item<double>();
    EXPECT_LT(difference, 1e-3 * expected.norm().item<double>()) << parameter;
    ++compared;
  }
  EXPECT_GT(compared, 20);
}

VitLite FixtureConfig() {
  VitLite config;
  config.set_embed_dim(24);
  config.set_depth(2);
  config.set_num_heads(3);
  return config;
}

TEST(VitLiteParityTest, ViTLite) { ExpectParity("vit_lite", FixtureConfig(), {16, 16}, true); }

TEST(VitLiteParityTest, ViTLiteWithAFixedSinusoid) {
  VitLite config = FixtureConfig();
  config.set_position(PositionEncoding::SINUSOID_1D);
  ExpectParity("vit_lite_sine", config, {16, 16}, true);
}

TEST(VitLiteParityTest, Cvt) { ExpectParity("cvt", FixtureConfig(), {16, 16}, false); }

TEST(VitLiteParityTest, Cct) {
  VitLite config = FixtureConfig();
  config.mutable_convolutions()->set_kernel_size(7);
  ExpectParity("cct", config, {24, 24}, false);
}

TEST(VitLiteParityTest, CctWithTwoConvolutions) {
  VitLite config = FixtureConfig();
  config.set_embed_dim(16);
  config.set_num_heads(2);
  config.mutable_convolutions()->set_layers(2);
  ExpectParity("cct_two_convolutions", config, {18, 18}, false);
}

TEST(VitLiteTest, TheOfficialNamesHaveThePoolingAndTheHeadInTheClassifier) {
  const auto backbone = Build(SmallConfig(), Context(kImage, true, Preset(PositionDelivery::MPVG)));
  EXPECT_EQ(backbone->HeadName(), "classifier.fc");
  const std::vector<WeightLayout> layouts = backbone->Layouts();
  ASSERT_EQ(layouts.size(), 1);
  EXPECT_EQ(layouts[0].name, "SHI-Labs/Compact-Transformers");
  for (const auto& [ours, theirs] :
       std::map<std::string, std::string>{{"pooling.attention_pool.weight", "classifier.attention_pool.weight"},
                                          {"classifier.fc.bias", "classifier.fc.bias"},
                                          {"classifier.blocks.3.linear1.weight", "classifier.blocks.3.linear1.weight"},
                                          {"tokenizer.conv_layers.0.0.weight", "tokenizer.conv_layers.0.0.weight"},
                                          {"pos_norms.2.weight", ""},
                                          {"last_pos_norm.bias", ""}}) {
    EXPECT_EQ(layouts[0].name_there(ours), theirs);
  }
}

// ---- Construction and modes -----------------------------------------------------------------------------------------

TEST(VitLiteTest, StartsAsTheOfficialCode) {
  const auto weights = ByName(*Build(VitLite(), Cifar(true)));
  EXPECT_NEAR(weights.at("classifier.positional_emb").std().item<double>(), 0.2, 0.005);
  EXPECT_EQ(weights.at("classifier.class_emb").abs().max().item<double>(), 0);
  EXPECT_NEAR(weights.at("classifier.blocks.3.self_attn.qkv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_FALSE(weights.contains("classifier.blocks.3.self_attn.qkv.bias"));
  EXPECT_NEAR(weights.at("tokenizer.conv_layers.0.0.weight").std().item<double>(), std::sqrt(2.0 / 48), 0.01);
  EXPECT_GT(weights.at("tokenizer.conv_layers.0.0.bias").abs().max().item<double>(), 0);
  VitLite cct = Cct7();
  cct.mutable_convolutions()->set_layers(2);
  const auto convolutions = ByName(*Build(cct, Cifar(false)));
  EXPECT_EQ(convolutions.at("tokenizer.conv_layers.0.0.weight").sizes(), (at::IntArrayRef{64, 3, 3, 3}));
  EXPECT_EQ(convolutions.at("tokenizer.conv_layers.1.0.weight").sizes(), (at::IntArrayRef{256, 64, 3, 3}));
  EXPECT_FALSE(convolutions.contains("tokenizer.conv_layers.0.0.bias"));
}

TEST(VitLiteTest, PositionsAndNormsDoNotDecay) {
  for (const NamedParameter& parameter : Build(VitLite(), Cifar(true, PositionDelivery::LAPE))->Parameters()) {
    const bool matrix = parameter.name.ends_with("weight") && parameter.name.find("norm") == std::string::npos;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    EXPECT_TRUE(parameter.trainable) << parameter.name;
  }
}

TEST(VitLiteTest, TheGridIsWhatTheTokenizerLeaves) {
  const MetaScope meta;
  VitLite config = SmallConfig();
  for (const auto& [kernel, layers, image, grid] :
       std::vector<std::tuple<int, int, Size2d, Size2d>>{{3, 1, {32, 32}, {16, 16}},
                                                         {3, 2, {32, 32}, {8, 8}},
                                                         {7, 2, {224, 224}, {14, 14}},
                                                         {5, 1, {9, 20}, {5, 10}},
                                                         {3, 1, {1, 2}, {1, 1}}}) {
    config.mutable_convolutions()->set_kernel_size(kernel);
    config.mutable_convolutions()->set_layers(layers);
    const auto backbone = Build(config, Context(image, false, Preset(PositionDelivery::MPVG)));
    EXPECT_EQ(backbone->grid(), grid) << kernel << " " << layers;
    const at::Tensor images = at::randn({2, 3, image.height, image.width}, at::TensorOptions().device(at::kMeta));
    EXPECT_EQ(backbone->Forward(images).tokens.sizes(), (at::IntArrayRef{2, grid.area(), 8}));
  }
}

TEST(VitLiteTest, DropoutAndDropPathActInTrainModeOnly) {
  VitLite config = SmallConfig();
  config.set_drop_path_rate(0.5);
  config.set_dropout(0.1);
  config.set_attention_dropout(0.1);
  const auto backbone = Build(config, Context(kImage, false, Preset(PositionDelivery::MPVG)));
  Randomize(*backbone);
  const at::Tensor images = at::randn({2, 3, kImage.height, kImage.width});
  EXPECT_FALSE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
  backbone->SetTraining(false);
  EXPECT_TRUE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
}

TEST(VitLiteTest, AdaptsPositionsOfAnotherGrid) {
  const auto backbone = Build(SmallConfig(), Context(kImage, false, Preset(PositionDelivery::PVG)));
  const at::Tensor table = at::randn({1, 1 + 6, 8});  // with a class token's row
  EXPECT_TRUE(backbone->Adapt("classifier.positional_emb", table).equal(table.narrow(1, 1, 6)));
  EXPECT_EQ(backbone->Adapt("classifier.positional_emb", at::randn({1, 16, 8})).sizes(), (at::IntArrayRef{1, 6, 8}));
  EXPECT_FALSE(backbone->Adapt("classifier.norm.weight", at::randn({1, 16, 8})).defined());
}

std::map<std::string, std::string> Errors(const VitLite& config, const BackboneContext& context) {
  std::map<std::string, std::string> errors;
  const auto backbone = Registry<Backbone>::Create(config, context);
  for (const FieldError& error : FieldErrors::FromStatus(backbone.status())) errors[error.path] = error.message;
  return errors;
}

std::set<std::string> Paths(const std::map<std::string, std::string>& errors) {
  std::set<std::string> paths;
  for (const auto& [path, message] : errors) paths.insert(path);
  return paths;
}

TEST(VitLiteErrorsTest, ImagesThatTheTokenizerCannotTake) {
  VitLite config;
  EXPECT_TRUE(Errors(config, Context({30, 32}, true, {})).contains("patch_size"));
  config.mutable_convolutions()->set_padding(0);
  config.mutable_convolutions()->set_pool_padding(0);
  config.mutable_convolutions()->set_layers(2);
  // 12 → 10 → 4 → 2 → nothing; 13 → 11 → 5 → 3 → 1.
  EXPECT_EQ(Errors(config, Context({32, 12}, true, {}))["convolutions"],
            "leave nothing of images of 32×12 (height×width); allowed are sides from 13 pixels");
  const auto smallest = Build(config, Context({13, 13}, true, Preset(PositionDelivery::VIT)));
  EXPECT_EQ(smallest->grid(), (Size2d{1, 1}));
}

TEST(VitLiteErrorsTest, AllMistakesComeTogether) {
  VitLite config;
  config.set_patch_size(0);
  config.set_embed_dim(9);
  config.set_num_heads(2);
  config.set_depth(-1);
  config.set_mlp_ratio(0);
  config.set_drop_path_rate(1);
  config.set_attention_dropout(-0.1);
  config.set_dropout(2);
  config.set_norm_epsilon(0);
  config.set_position_std(-1);
  config.set_position(PositionEncoding::SINUSOID_1D);
  EXPECT_EQ(Paths(Errors(config, Cifar(true))),
            (std::set<std::string>{"patch_size", "num_heads", "depth", "mlp_ratio", "drop_path_rate",
                                   "attention_dropout", "dropout", "norm_epsilon", "position_std", "position"}));
}

TEST(VitLiteErrorsTest, NumbersThatNoMemoryHolds) {
  constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();
  VitLite config;
  config.set_depth(kHuge);
  config.set_embed_dim(kHuge);
  config.set_num_heads(1);
  VitLite::Convolutions& convolutions = *config.mutable_convolutions();
  convolutions.set_layers(kHuge);
  convolutions.set_channels(kHuge);
  convolutions.set_kernel_size(kHuge);
  convolutions.set_stride(kHuge);
  convolutions.set_pool_kernel_size(0);
  convolutions.set_pool_stride(-1);
  EXPECT_EQ(Paths(Errors(config, Cifar(true))),
            (std::set<std::string>{"depth", "embed_dim", "mlp_ratio", "convolutions.layers", "convolutions.channels",
                                   "convolutions.kernel_size", "convolutions.stride", "convolutions.pool_kernel_size",
                                   "convolutions.pool_stride"}));
  VitLite padded = Cct7();
  padded.mutable_convolutions()->set_padding(4);
  padded.mutable_convolutions()->set_pool_padding(2);
  EXPECT_EQ(Paths(Errors(padded, Cifar(true))),
            (std::set<std::string>{"convolutions.padding", "convolutions.pool_padding"}));
  VitLite deep = Cct7();
  deep.mutable_convolutions()->set_layers(1000);
  deep.mutable_convolutions()->set_stride(1024);
  deep.mutable_convolutions()->set_padding(0);
  EXPECT_EQ(Paths(Errors(deep, Cifar(true))), (std::set<std::string>{"convolutions"}));
}

TEST(VitLiteErrorsTest, AContractThatTheModelCannotMeet) {
  VitLite config;
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(7);
  EXPECT_TRUE(Errors(config, Context({32, 32}, false, delivery)).contains("depth"));
  config.set_position(PositionEncoding::NONE);
  EXPECT_TRUE(Errors(config, Cifar(false, PositionDelivery::MPVG)).contains("position"));
  BackboneContext distilled = Cifar(true);
  distilled.contract.distillation_token = true;
  EXPECT_TRUE(Errors({}, distilled).contains(""));
}

}  // namespace
}  // namespace graticule
