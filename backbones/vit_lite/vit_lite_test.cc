#include "backbones/vit_lite/vit_lite.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/randn.h"
#include "absl/strings/str_cat.h"
#include "backbones/testing.h"
#include "gtest/gtest.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "nn/testing.h"

namespace graticule {
namespace {

BackboneContext Cifar(bool class_token, PositionDelivery::Preset preset = PositionDelivery::VIT) {
  return Context({32, 32}, class_token, Preset(preset));
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
    const MacCount count = CountMacs(*backbone, {32, 32});
    return static_cast<double>(count.total - count.by_operator.at("scaled_dot_product_attention")) / 1e9;
  };
  EXPECT_NEAR(macs({}, true), 0.239, 0.001);
  EXPECT_NEAR(macs(ViTLite6(), true), 0.205, 0.001);
  EXPECT_NEAR(macs({}, false), 0.236, 0.001);
  EXPECT_NEAR(macs(Cct7(), false), 0.947, 0.001);
}

// ---- The equations --------------------------------------------------------------------------------------------------

class PlainVitLite : public PlainModel {
 public:
  PlainVitLite(const Module& module, const VitLite& config, const PositionDelivery& delivery)
      : PlainModel(module, 1e-5), config_(config), delivery_(delivery) {}

  // images [B,3,H,W] to tokens [B,T,D].
  at::Tensor Tokens(const at::Tensor& images) const {
    const at::Tensor patches = Patches(images, "tokenizer.conv_layers.0.0", /*patch_size=*/4);
    const Positions positions = Deliver(W("classifier.positional_emb"), delivery_, config_.depth());
    at::Tensor x = Sum(WithClassToken(patches, "classifier.class_emb"), positions.at_input);
    for (int l = 0; l < config_.depth(); ++l) {
      const std::string block = absl::StrCat("classifier.blocks.", l, ".");
      const at::Tensor normed = Sum(Norm(x, block + "pre_norm"), positions.at_layers[l]);
      x = Norm(x + SelfAttention(normed, block + "self_attn", {.heads = config_.num_heads()}), block + "norm1");
      x = x + Affine(Gelu(Affine(x, block + "linear1")), block + "linear2");
    }
    return Sum(Norm(x, "classifier.norm"), positions.at_last_norm);
  }

 private:
  VitLite config_;
  PositionDelivery delivery_;
};

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

TEST(VitLiteTest, ComputesTheEquations) {
  for (const DeliveryCase& c : DeliveryCases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor images = RandomImages(2, kImage);
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, c.class_token + 6, 8}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    EXPECT_TRUE(map.position.defined());
    const at::Tensor expected = PlainVitLite(*backbone, SmallConfig(), c.delivery).Tokens(images);
    EXPECT_LT(LargestDifference(map.tokens, expected), kRounding);
  }
}

TEST(VitLiteTest, GradientsReachEveryParameter) {
  for (const DeliveryCase& c : DeliveryCases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    ExpectGradients(*backbone, RandomImages(2, kImage));
  }
}

// ---- The official code ----------------------------------------------------------------------------------------------

VitLite FixtureConfig() {
  VitLite config;
  config.set_embed_dim(24);
  config.set_depth(2);
  config.set_num_heads(3);
  return config;
}

constexpr char kOfficial[] = "SHI-Labs/Compact-Transformers";

TEST(VitLiteParityTest, ViTLite) {
  ExpectParity(Fixture("vit_lite", "vit_lite"), FixtureConfig(), Context({16, 16}, true), {.layout = kOfficial});
}

TEST(VitLiteParityTest, ViTLiteWithAFixedSinusoid) {
  const Safetensors fixture = Fixture("vit_lite", "vit_lite_sine");
  VitLite config = FixtureConfig();
  config.set_position(PositionEncoding::SINUSOID_1D);
  const auto backbone = Build(config, Context({16, 16}, true));
  const std::string name = "classifier.positional_emb";
  EXPECT_LT(LargestDifference(ByName(*backbone).at(name), fixture.Find(name)), 1e-5);
  ExpectParity(fixture, config, Context({16, 16}, true), {.layout = kOfficial});
}

// A softmax over the tokens doesn't change where all get the same, so the gradient of SeqPool's bias is zero.
constexpr double kRounding = 1e-6;

TEST(VitLiteParityTest, Cvt) {
  ExpectParity(Fixture("vit_lite", "cvt"), FixtureConfig(), Context({16, 16}, false),
               {.layout = kOfficial, .seq_pool = true, .rounding = kRounding});
}

TEST(VitLiteParityTest, Cct) {
  VitLite config = FixtureConfig();
  config.mutable_convolutions()->set_kernel_size(7);
  ExpectParity(Fixture("vit_lite", "cct"), config, Context({24, 24}, false),
               {.layout = kOfficial, .seq_pool = true, .rounding = kRounding});
}

TEST(VitLiteParityTest, CctWithTwoConvolutions) {
  VitLite config = FixtureConfig();
  config.set_embed_dim(16);
  config.set_num_heads(2);
  config.mutable_convolutions()->set_layers(2);
  ExpectParity(Fixture("vit_lite", "cct_two_convolutions"), config, Context({18, 18}, false),
               {.layout = kOfficial, .seq_pool = true, .rounding = kRounding});
}

TEST(VitLiteTest, TheOfficialNamesHaveThePoolingAndTheHeadInTheClassifier) {
  const auto backbone = Build(SmallConfig(), Context(kImage, true, Preset(PositionDelivery::MPVG)));
  EXPECT_EQ(backbone->HeadName(), "classifier.fc");
  const std::vector<WeightLayout> layouts = backbone->Layouts();
  ASSERT_EQ(layouts.size(), 1);
  EXPECT_EQ(layouts[0].name, kOfficial);
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
  ExpectRandomInTrainModeOnly(*backbone, RandomImages(2, kImage));
}

TEST(VitLiteTest, AdaptsPositionsOfAnotherGrid) {
  const auto backbone = Build(SmallConfig(), Context(kImage, false, Preset(PositionDelivery::PVG)));
  const at::Tensor table = at::randn({1, 1 + 6, 8});  // with a class token's row
  EXPECT_TRUE(backbone->Adapt("classifier.positional_emb", table).equal(table.narrow(1, 1, 6)));
  EXPECT_EQ(backbone->Adapt("classifier.positional_emb", at::randn({1, 16, 8})).sizes(), (at::IntArrayRef{1, 6, 8}));
  EXPECT_FALSE(backbone->Adapt("classifier.norm.weight", at::randn({1, 16, 8})).defined());
}

TEST(VitLiteErrorsTest, ImagesThatTheTokenizerCannotTake) {
  VitLite config;
  EXPECT_TRUE(Errors(config, Context({30, 32}, true)).contains("patch_size"));
  config.mutable_convolutions()->set_padding(0);
  config.mutable_convolutions()->set_pool_padding(0);
  config.mutable_convolutions()->set_layers(2);
  // 12 → 10 → 4 → 2 → nothing; 13 → 11 → 5 → 3 → 1.
  EXPECT_EQ(Errors(config, Context({32, 12}, true))["convolutions"],
            "leave nothing of images of 32×12 (height×width); allowed are sides from 13 pixels");
  const auto smallest = Build(config, Context({13, 13}, true));
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
  EXPECT_EQ(ErrorPaths(config, Cifar(true)),
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
  EXPECT_EQ(ErrorPaths(config, Cifar(true)),
            (std::set<std::string>{"depth", "embed_dim", "mlp_ratio", "convolutions.layers", "convolutions.channels",
                                   "convolutions.kernel_size", "convolutions.stride", "convolutions.pool_kernel_size",
                                   "convolutions.pool_stride"}));
  VitLite padded = Cct7();
  padded.mutable_convolutions()->set_padding(4);
  padded.mutable_convolutions()->set_pool_padding(2);
  EXPECT_EQ(ErrorPaths(padded, Cifar(true)),
            (std::set<std::string>{"convolutions.padding", "convolutions.pool_padding"}));
  VitLite deep = Cct7();
  deep.mutable_convolutions()->set_layers(1000);
  deep.mutable_convolutions()->set_stride(1024);
  deep.mutable_convolutions()->set_padding(0);
  EXPECT_EQ(ErrorPaths(deep, Cifar(true)), (std::set<std::string>{"convolutions"}));
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
  EXPECT_TRUE(Errors(VitLite(), distilled).contains(""));
}

}  // namespace
}  // namespace graticule
