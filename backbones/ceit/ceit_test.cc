#include "backbones/ceit/ceit.h"

#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/max_pool2d.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros_like.h"
#include "absl/strings/str_cat.h"
#include "backbones/testing.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/testing.h"

namespace graticule {
namespace {

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
    const auto backbone = Build(Published(count.width, count.heads), Context({224, 224}, true));
    const MacCount macs = CountMacs(*backbone, {224, 224});
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

// In evaluation mode, for a single image.
class PlainCeit : public PlainModel {
 public:
  PlainCeit(const Module& module, const Ceit& config, Size2d grid, bool class_token, const PositionDelivery& delivery)
      : PlainModel(module, 1e-6), config_(config), grid_(grid), class_token_(class_token), delivery_(delivery) {}

  // image [3,H,W] to tokens [T,D].
  at::Tensor Tokens(const at::Tensor& image) const {
    const Positions positions = Deliver(W("pos_embed")[0], delivery_, config_.depth(), /*first_layer=*/true);
    at::Tensor x = Sum(WithClassToken(Stem(image.unsqueeze(0)), "cls_token")[0], positions.at_input);
    std::vector<at::Tensor> of_layers;
    for (int l = 0; l < config_.depth(); ++l) {
      const std::string block = absl::StrCat("blocks.", l, ".");
      const at::Tensor normed = Sum(Norm(x, block + "norm1"), positions.at_layers[l]);
      x = x + SelfAttention(normed, block + "attn", {.heads = config_.num_heads()});
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
    return Sum(Norm(x, "norm"), positions.at_last_norm);
  }

 private:
  // Over the channels, the last axis.
  at::Tensor BatchNormed(const at::Tensor& x, const std::string& name) const {
    return (x - W(name + ".running_mean")) / (W(name + ".running_var") + 1e-5).sqrt() * W(name + ".weight") +
           W(name + ".bias");
  }

  // [1,3,H,W] to [1,N,D].
  at::Tensor Stem(const at::Tensor& image) const {
    at::Tensor map = at::conv2d(image.to(at::kDouble), W("i2t.backbone.conv.weight"), {}, 2, 3);
    map = BatchNormed(map.permute({0, 2, 3, 1}), "i2t.backbone.bn").permute({0, 3, 1, 2});
    return Patches(at::max_pool2d(map, 3, 2, 1), "i2t.proj", config_.patch_size() / 4);
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
    const at::Tensor attended = SelfAttention(Norm(all, "lca.norm1"), "lca.attn", {.heads = config_.num_heads()});
    const at::Tensor last = all[-1] + attended[-1];
    return last + Affine(Gelu(Affine(Norm(last, "lca.norm2"), "lca.feedforward.fc1")), "lca.feedforward.fc2");
  }

  Ceit config_;
  Size2d grid_;
  bool class_token_;
  PositionDelivery delivery_;
};

struct Case : DeliveryCase {
  Ceit::AverageLca average_lca = Ceit::MEAN_TOKEN;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const DeliveryCase& c : DeliveryCases()) cases.push_back({c});
  cases.push_back({{"LCA of each token", false, Preset(PositionDelivery::MPVG)}, Ceit::EACH_TOKEN});
  return cases;
}

constexpr Size2d kImage = {16, 24};  // 2×3 patches

Ceit SmallConfig() {
  Ceit config;
  config.set_patch_size(8);
  config.set_stem_width(4);
  config.set_embed_dim(8);
  config.set_depth(4);
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
    const at::Tensor images = RandomImages(2, kImage);
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, c.class_token + 6, 8}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    const PlainCeit plain(*backbone, config, map.grid, c.class_token, c.delivery);
    for (int image = 0; image < 2; ++image) {
      EXPECT_LT(LargestDifference(map.tokens[image], plain.Tokens(images[image])), kRounding);
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
    ExpectGradients(*backbone, RandomImages(2, kImage));
  }
}

// ---- The official code ----------------------------------------------------------------------------------------------

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

// Gradients of biases before a norm over the batch are zero.
constexpr double kRounding = 1e-6;

TEST(CeitParityTest, Evaluation) {
  ExpectParity(Fixture("ceit", "eval"), FixtureConfig(), Context({32, 32}, true), {.rounding = kRounding});
}

TEST(CeitParityTest, Training) {
  ExpectParity(Fixture("ceit", "train"), FixtureConfig(), Context({32, 32}, true),
               {.training = true, .rounding = kRounding});
}

TEST(CeitParityTest, WiderConvolutionWithoutQkvBias) {
  Ceit config = FixtureConfig();
  config.set_leff_kernel_size(5);
  config.set_qkv_bias(false);
  ExpectParity(Fixture("ceit", "kernel_5"), config, Context({32, 32}, true), {.rounding = kRounding});
}

// ---- Construction ---------------------------------------------------------------------------------------------------

TEST(CeitTest, AdaptsPositionsOfAnotherGrid) {
  const auto backbone = Build(SmallConfig(), Context(kImage, true));
  const at::Tensor table = at::randn({1, 1 + 4 * 4, 8});
  const at::Tensor adapted = backbone->Adapt("pos_embed", table);
  ASSERT_EQ(adapted.sizes(), (at::IntArrayRef{1, 7, 8}));
  EXPECT_TRUE(adapted.select(1, 0).equal(table.select(1, 0)));
  const auto average = Build(SmallConfig(), Context(kImage, false, Preset(PositionDelivery::MPVG)));
  EXPECT_TRUE(average->Adapt("pos_embed", table).equal(adapted.narrow(1, 1, 6)));
  EXPECT_FALSE(backbone->Adapt("pos_layer_embed", at::randn({1, 12, 8})).defined());
}

TEST(CeitTest, StartsAsTheOfficialCode) {
  const auto backbone = Build(Published(192, 3), Context({224, 224}, true));
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
  ExpectRandomInTrainModeOnly(*backbone, RandomImages(2, kImage));
}

TEST(CeitErrorsTest, ImagesThatTheTokensDoNotTile) {
  auto errors = Errors(Ceit(), Context({224, 230}, true));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(
      errors["patch_size"],
      "patches of 16 don't tile images of 224×230 (height×width); the nearest sizes that they tile are height 224 "
      "and width 224 or 240");
  Ceit config;
  config.set_patch_size(14);
  errors = Errors(config, Context({224, 224}, true));
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
  EXPECT_EQ(ErrorPaths(config, Context({224, 224}, true)),
            (std::set<std::string>{"patch_size", "stem_width", "num_heads", "depth", "mlp_ratio", "leff_kernel_size",
                                   "drop_path_rate", "attention_dropout", "norm_epsilon"}));

  Ceit wide;
  wide.set_leff_kernel_size(65535);
  EXPECT_EQ(Errors(wide, Context({224, 224}, true))["leff_kernel_size"], "must be 63 at most, found 65535");
}

TEST(CeitErrorsTest, AContractThatTheModelCannotMeet) {
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(12);
  EXPECT_TRUE(Errors(Ceit(), Context({224, 224}, false, delivery)).contains("depth"));
  BackboneContext context = Context({224, 224}, true);
  context.contract.distillation_token = true;
  EXPECT_EQ(Errors(Ceit(), context).size(), 1);
}

}  // namespace
}  // namespace graticule
