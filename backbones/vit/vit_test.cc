#include "backbones/vit/vit.h"

#include <set>
#include <string>
#include <variant>
#include <vector>

#include "ATen/ops/randn.h"
#include "absl/strings/str_cat.h"
#include "backbones/testing.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "nn/testing.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

// ---- Parameter counts -----------------------------------------------------------------------------------------------

struct Count {
  int width;
  int heads;
  PositionDelivery::Preset preset;
  int64_t parameters;  // with a head of 1000 classes
};

// The paper's models, to the last parameter.
TEST(VitTest, HasThePublishedNumberOfParameters) {
  const std::vector<Count> counts = {
      {192, 3, PositionDelivery::VIT, 5'717'416},   {192, 3, PositionDelivery::LAPE, 5'722'024},
      {192, 3, PositionDelivery::PVG, 5'721'256},   {192, 3, PositionDelivery::MPVG, 5'721'640},
      {384, 6, PositionDelivery::VIT, 22'050'664},  {384, 6, PositionDelivery::LAPE, 22'059'880},
      {384, 6, PositionDelivery::PVG, 22'058'344},  {384, 6, PositionDelivery::MPVG, 22'059'112},
      {768, 12, PositionDelivery::VIT, 86'567'656}, {768, 12, PositionDelivery::LAPE, 86'586'088},
      {768, 12, PositionDelivery::PVG, 86'583'016}, {768, 12, PositionDelivery::MPVG, 86'584'552},
  };
  const MetaScope meta;
  for (const Count& count : counts) {
    Vit config;
    config.set_embed_dim(count.width);
    config.set_num_heads(count.heads);
    const bool class_token = count.preset == PositionDelivery::VIT || count.preset == PositionDelivery::LAPE;
    const auto backbone = Build(config, Context({224, 224}, class_token, Preset(count.preset)));
    const int64_t head = count.width * 1000 + 1000;
    EXPECT_EQ(backbone->ParameterCount() + head, count.parameters)
        << count.width << " " << PositionDelivery::Preset_Name(count.preset);
  }
}

TEST(VitTest, AveragePoolingWithoutClassTokenHasThePublishedNumberOfParameters) {
  const MetaScope meta;
  const auto backbone = Build(Vit(), Context({224, 224}, false));
  EXPECT_EQ(backbone->ParameterCount() + 193'000, 5'717'032);
}

// DeiT's and iRPE's papers, and timm's RoPE-ViT.
TEST(VitTest, DistilledAndEncodedModelsHaveThePublishedNumberOfParameters) {
  const MetaScope meta;
  const auto count = [](int width, int heads, const std::string& text, bool distilled) {
    Vit config;
    config.set_embed_dim(width);
    config.set_num_heads(heads);
    CHECK(google::protobuf::TextFormat::MergeFromString(text, &config));
    BackboneContext context = Context({224, 224}, true);
    context.contract.distillation_token = distilled;
    return Build(config, context)->ParameterCount() + (distilled ? 2 : 1) * (width * 1000 + 1000);
  };
  EXPECT_EQ(count(192, 3, "", true), 5'910'800);
  EXPECT_EQ(count(384, 6, "", true), 22'436'432);
  EXPECT_EQ(count(768, 12, "", true), 87'338'192);
  // 5.76 M and 22.09 M: 12 tables of 64×50.
  EXPECT_EQ(count(192, 3, "attention_position { irpe {} }", false), 5'717'416 + 12 * 64 * 50);
  EXPECT_EQ(count(384, 6, "attention_position { irpe {} }", false), 22'050'664 + 12 * 64 * 50);
  const std::string rope = "position: NONE layer_scale: 1e-4 attention_position { rope ";
  EXPECT_EQ(count(384, 6, rope + "{} }", false), 21'984'232);
  EXPECT_EQ(count(384, 6, rope + "{ kind: MIXED } }", false), 21'988'840);
}

TEST(VitTest, DecaysMatricesOnly) {
  Vit config;
  config.set_depth(2);
  const auto backbone = Build(config, Context({32, 32}, true, Preset(PositionDelivery::LAPE)));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    const bool matrix = parameter.name.ends_with("weight") && parameter.name.find("norm") == std::string::npos;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    EXPECT_TRUE(parameter.trainable) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

class PlainVit : public PlainModel {
 public:
  PlainVit(const Module& module, const Vit& config, const PositionDelivery& delivery)
      : PlainModel(module, 1e-6), config_(config), delivery_(delivery) {}

  // images [B,3,H,W] to tokens [B,T,D].
  at::Tensor Tokens(const at::Tensor& images) const {
    const at::Tensor patches = Patches(images, "patch_embed.proj", config_.patch_size());
    const Positions positions = Deliver(Has("pos_embed") ? W("pos_embed") : at::Tensor(), delivery_, config_.depth());
    at::Tensor x = Sum(WithClassToken(patches, "cls_token"), positions.at_input);
    for (int l = 0; l < config_.depth(); ++l) {
      x = Block(x, absl::StrCat("blocks.", l), positions.at_layers[l], {.heads = config_.num_heads()});
    }
    return Sum(Norm(x, "norm"), positions.at_last_norm);
  }

 private:
  Vit config_;
  PositionDelivery delivery_;
};

struct Case : DeliveryCase {
  PositionEncoding::Kind position = PositionEncoding::LEARNED;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const DeliveryCase& c : DeliveryCases()) cases.push_back({c});
  for (const auto kind : {PositionEncoding::SINUSOID_1D, PositionEncoding::SINUSOID_2D,
                          PositionEncoding::SINUSOID_2D_BLOCKS, PositionEncoding::NONE}) {
    const auto preset = kind == PositionEncoding::NONE ? PositionDelivery::VIT : PositionDelivery::MPVG;
    cases.push_back({{PositionEncoding::Kind_Name(kind), true, Preset(preset)}, kind});
  }
  return cases;
}

constexpr Size2d kImage = {8, 12};  // 2×3 patches

Vit SmallConfig(PositionEncoding::Kind position) {
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(8);
  config.set_depth(4);
  config.set_num_heads(2);
  config.set_mlp_ratio(2);
  config.set_position(position);
  return config;
}

TEST(VitTest, ComputesTheEquations) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.position), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor images = RandomImages(2, kImage);
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, c.class_token + 6, 8}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    EXPECT_EQ(map.position.defined(), c.position != PositionEncoding::NONE);
    const at::Tensor expected = PlainVit(*backbone, SmallConfig(c.position), c.delivery).Tokens(images);
    EXPECT_LT(LargestDifference(map.tokens, expected), kRounding);
  }
}

TEST(VitTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.position), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    ExpectGradients(*backbone, RandomImages(2, kImage));
  }
}

// ---- timm -----------------------------------------------------------------------------------------------------------

Vit FixtureConfig() {
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(24);
  config.set_depth(2);
  config.set_num_heads(3);
  return config;
}

TEST(VitParityTest, ClassToken) {
  ExpectParity(Fixture("vit", "class_token"), FixtureConfig(), Context({16, 16}, true));
}

TEST(VitParityTest, AveragePoolingAfterTheNorm) {
  ExpectParity(Fixture("vit", "average"), FixtureConfig(), Context({16, 16}, false));
}

TEST(VitParityTest, RectangularImagesWithoutQkvBias) {
  Vit config = FixtureConfig();
  config.set_qkv_bias(false);
  config.set_mlp_ratio(3);
  ExpectParity(Fixture("vit", "rectangular"), config, Context({12, 20}, true));
}

// A config without absolute positions, with this text in it.
Vit Encoded(const std::string& text) {
  Vit config = FixtureConfig();
  config.set_position(PositionEncoding::NONE);
  CHECK(google::protobuf::TextFormat::MergeFromString(text, &config)) << text;
  return config;
}

TEST(VitParityTest, RopeAxial) {
  ExpectParity(Fixture("vit", "rope_axial"), Encoded("layer_scale: 1e-5 attention_position { rope {} }"),
               Context({12, 20}, true));
}

TEST(VitParityTest, RopeMixed) {
  ExpectParity(Fixture("vit", "rope_mixed"), Encoded("layer_scale: 1e-5 attention_position { rope { kind: MIXED } }"),
               Context({12, 20}, true));
}

TEST(VitParityTest, RelativeBias) {
  ExpectParity(Fixture("vit", "relative_bias"), Encoded("attention_position { relative_bias {} }"),
               Context({12, 20}, true));
}

// The last layer's class token meets one bucket alone, whose gradient is zero.
TEST(VitParityTest, Irpe) {
  ExpectParity(Fixture("vit", "irpe"), Encoded("position: LEARNED attention_position { irpe {} }"),
               Context({12, 36}, true), {.rounding = 1e-6});
}

TEST(VitParityTest, Conditional) {
  ExpectParity(Fixture("vit", "conditional"), Encoded("conditional_position_after: 0"), Context({12, 20}, true));
}

// What a layout calls the parameters of a model that others don't have.
std::set<std::string> NamesThere(const Backbone& backbone, const std::string& layout_name) {
  std::set<std::string> names;
  for (const WeightLayout& layout : backbone.Layouts()) {
    if (layout.name != layout_name) continue;
    for (const auto& [name, tensor] : ByName(backbone)) {
      if (const std::string there = layout.name_there(name); there != name) names.insert(there);
    }
  }
  return names;
}

// The state dicts of Ingrid725/LaPE, naver-ai/rope-vit and timm's DeiT-III.
TEST(VitTest, KnowsItsNamesInOtherCodes) {
  const MetaScope meta;
  Vit config = Encoded("depth: 2 layer_scale: 1e-5 attention_position { rope { kind: MIXED } }");
  const auto rope = Build(config, Context({12, 20}, true));
  EXPECT_EQ(NamesThere(*rope, "naver-ai/rope-vit"), (std::set<std::string>{"freqs"}));
  EXPECT_EQ(
      NamesThere(*rope, "timm's LayerScale"),
      (std::set<std::string>{"blocks.0.ls1.gamma", "blocks.0.ls2.gamma", "blocks.1.ls1.gamma", "blocks.1.ls2.gamma"}));
  config.clear_position();
  const auto lape = Build(config, Context({12, 20}, true, Preset(PositionDelivery::LAPE)));
  EXPECT_EQ(NamesThere(*lape, "Ingrid725/LaPE"),
            (std::set<std::string>{"blocks.0.pe_norm.bias", "blocks.0.pe_norm.weight", "blocks.1.pe_norm.bias",
                                   "blocks.1.pe_norm.weight"}));
}

TEST(VitTest, AdaptsFrequenciesWithTheHeadsInOneAxis) {
  Vit config = Encoded("depth: 2 attention_position { rope { kind: MIXED } }");
  const auto backbone = Build(config, Context({12, 20}, true));
  const at::Tensor own = ByName(*backbone).at("rope.freqs");
  EXPECT_TRUE(backbone->Adapt("rope.freqs", own.flatten(2)).equal(own));
  EXPECT_FALSE(backbone->Adapt("rope.freqs", own.flatten()).defined());
}

TEST(VitTest, KnowsWhatTimmHasAndLacks) {
  const MetaScope meta;
  const auto timm = [](const std::string& text, bool class_token = true) {
    Vit config;
    CHECK(google::protobuf::TextFormat::MergeFromString(text, &config)) << text;
    return Build(config, Context({224, 224}, class_token))->Timm();
  };
  EXPECT_EQ(timm("")->architecture, "vit_tiny_patch16_224");
  EXPECT_EQ(timm("embed_dim: 384 num_heads: 6")->architecture, "vit_small_patch16_224");
  EXPECT_EQ(std::get<int64_t>(timm("depth: 7")->arguments.at("depth")), 7);
  EXPECT_EQ(std::get<bool>(timm("", false)->arguments.at("fc_norm")), false);
  EXPECT_EQ(timm("layer_scale: 1e-5 attention_position { rope {} }")->architecture, "vit_base_patch16_rope_224");
  for (const char* text : {"norm_epsilon: 1e-5", "layer_scale: 1e-5", "conditional_position_after: 0",
                           "attention_position { rope {} }", "attention_position { irpe {} }"}) {
    EXPECT_EQ(timm(text).status().code(), absl::StatusCode::kUnimplemented) << text;
  }
}

TEST(VitParityTest, AdaptsPositionsOfAnotherGrid) {
  const Safetensors fixture = Fixture("vit", "position_resize");
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(8);
  config.set_depth(1);
  config.set_num_heads(1);
  for (const Size2d grid : {Size2d{6, 6}, Size2d{3, 3}, Size2d{5, 7}}) {
    const at::Tensor expected = fixture.Find(absl::StrCat(grid.height, "x", grid.width));
    const Size2d image = {grid.height * 4, grid.width * 4};
    const auto with_class_token = Build(config, Context(image, true));
    const at::Tensor adapted = with_class_token->Adapt("pos_embed", fixture.Find("table"));
    EXPECT_TRUE(adapted.allclose(expected, 0, 1e-5));
    const auto without = Build(config, Context(image, false, Preset(PositionDelivery::MPVG)));
    EXPECT_TRUE(
        without->Adapt("pos_embed", fixture.Find("table")).allclose(expected.narrow(1, 1, grid.area()), 0, 1e-5));
    EXPECT_FALSE(without->Adapt("norm.weight", fixture.Find("table")).defined());
  }
}

// ---- Construction and modes -----------------------------------------------------------------------------------------

TEST(VitTest, StartsAsTimm) {
  const auto backbone = Build(Vit(), Context({224, 224}, true, Preset(PositionDelivery::MPVG)));
  const auto weights = ByName(*backbone);
  EXPECT_NEAR(weights.at("blocks.3.attn.qkv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("pos_embed").std().item<double>(), 0.02, 0.0005);
  EXPECT_LT(weights.at("cls_token").abs().max().item<double>(), 1e-5);
  EXPECT_EQ(weights.at("blocks.3.mlp.fc1.bias").abs().max().item<double>(), 0);
  for (const std::string norm : {"norm", "blocks.0.norm1", "pos_norms.5", "last_pos_norm"}) {
    EXPECT_TRUE(weights.at(norm + ".weight").eq(1).all().item<bool>()) << norm;
    EXPECT_TRUE(weights.at(norm + ".bias").eq(0).all().item<bool>()) << norm;
  }
}

TEST(VitTest, ForwardRunsOnTheMetaDevice) {
  const MetaScope meta;
  const auto backbone = Build(Vit(), Context({160, 224}, false, Preset(PositionDelivery::MPVG)));
  const TokenMap map = backbone->Forward(at::randn({2, 3, 160, 224}, at::TensorOptions().device(at::kMeta)));
  EXPECT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, 140, 192}));
}

TEST(VitTest, DropoutAndDropPathActInTrainModeOnly) {
  Vit config = SmallConfig(PositionEncoding::LEARNED);
  config.set_drop_path_rate(0.5);
  config.set_position_dropout(0.1);
  config.set_projection_dropout(0.1);
  config.set_attention_dropout(0.1);
  const auto backbone = Build(config, Context(kImage, false, Preset(PositionDelivery::MPVG)));
  Randomize(*backbone);
  ExpectRandomInTrainModeOnly(*backbone, RandomImages(2, kImage));
}

TEST(VitErrorsTest, PatchesThatDoNotTileTheImage) {
  Vit config;
  config.set_patch_size(15);
  auto errors = Errors(config, Context({224, 225}, true));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(
      errors["patch_size"],
      "patches of 15 don't tile images of 224×225 (height×width); the nearest sizes that they tile are height 210 or "
      "225 and width 225");
}

TEST(VitErrorsTest, AllMistakesComeTogether) {
  Vit config;
  config.set_patch_size(0);
  config.set_embed_dim(10);
  config.set_num_heads(4);
  config.set_depth(-1);
  config.set_mlp_ratio(0);
  config.set_drop_path_rate(1);
  config.set_attention_dropout(-0.1);
  config.set_norm_epsilon(0);
  config.set_position(PositionEncoding::SINUSOID_2D);
  EXPECT_EQ(ErrorPaths(config, Context({224, 224}, true)),
            (std::set<std::string>{"patch_size", "num_heads", "depth", "mlp_ratio", "drop_path_rate",
                                   "attention_dropout", "norm_epsilon", "position"}));
}

TEST(VitErrorsTest, EncodingsThatDoNotFit) {
  Vit config;
  config.set_embed_dim(18);
  config.set_depth(2);
  CHECK(google::protobuf::TextFormat::MergeFromString(
      "attention_position { rope { temperature: 0 } } conditional_position_after: [0, 2, 0] layer_scale: -1", &config));
  auto errors = Errors(config, Context({224, 224}, true));
  EXPECT_EQ(errors["attention_position.rope"], "needs heads whose width is a multiple of 4, found 18 / 3 = 6");
  EXPECT_EQ(errors["attention_position.rope.temperature"], "must be positive, found 0");
  EXPECT_EQ(errors["conditional_position_after[1]"], "must be a layer from 0 to 1, found 2");
  EXPECT_EQ(errors["conditional_position_after[2]"], "layer 0 is named twice");
  EXPECT_TRUE(errors.contains("layer_scale"));
  EXPECT_EQ(errors.size(), 5);
  CHECK(google::protobuf::TextFormat::MergeFromString("attention_position { irpe { alpha: 9 beta: 3 } }", &config));
  EXPECT_TRUE(Errors(config, Context({224, 224}, true)).contains("attention_position.irpe"));

  Vit fine;
  fine.set_patch_size(1);
  fine.mutable_attention_position()->mutable_relative_bias();
  EXPECT_EQ(Errors(fine, Context({224, 224}, true, Preset(PositionDelivery::VIT)))["attention_position"],
            "relates each pair of tokens, of which there may be 4096, found 224×224");
}

TEST(VitErrorsTest, ADeliveryThatTheModelCannotMeet) {
  Vit config;
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(12);
  EXPECT_TRUE(Errors(config, Context({224, 224}, false, delivery)).contains("depth"));
  config.set_position(PositionEncoding::NONE);
  EXPECT_TRUE(Errors(config, Context({224, 224}, false, Preset(PositionDelivery::MPVG))).contains("position"));
}

}  // namespace
}  // namespace graticule
