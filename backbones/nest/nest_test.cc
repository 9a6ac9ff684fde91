#include "backbones/nest/nest.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "backbones/testing.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "nn/testing.h"

namespace graticule {
namespace {

Nest Config(const std::vector<int>& widths, const std::vector<int>& depths, const std::vector<int>& heads) {
  Nest config;
  config.mutable_embed_dims()->Assign(widths.begin(), widths.end());
  config.mutable_depths()->Assign(depths.begin(), depths.end());
  config.mutable_num_heads()->Assign(heads.begin(), heads.end());
  return config;
}

Nest Tiny() { return Nest(); }
Nest Small() { return Config({96, 192, 384}, {2, 2, 20}, {3, 6, 12}); }
Nest Base() { return Config({128, 256, 512}, {2, 2, 20}, {4, 8, 16}); }

// ---- Published sizes ------------------------------------------------------------------------------------------------

TEST(NestTest, HasThePublishedNumberOfParametersAndMultiplyAdds) {
  struct Published {
    Nest config;
    int64_t parameters;  // with a head of 1000 classes
    double gmacs;
  };
  const MetaScope meta;
  for (const Published& published : {Published{Tiny(), 17'057'608, 5.83}, Published{Small(), 38'351'176, 10.35},
                                     Published{Base(), 67'723'368, 17.96}}) {
    const auto backbone = Build(published.config, Context({224, 224}, false));
    EXPECT_EQ(backbone->ParameterCount() + backbone->width() * 1000 + 1000, published.parameters);
    EXPECT_EQ(backbone->grid(), (Size2d{14, 14}));
    const MacCount macs = CountMacs(*backbone, {224, 224});
    EXPECT_NEAR((macs.total + backbone->width() * 1000) / 1e9, published.gmacs, 0.01 * published.gmacs);
  }
}

// A norm of scale and shift in each of the 2 + 2 + 8 layers, and MPVG's after the last.
TEST(NestTest, DeliveredPositionsAddTheirNormsAlone) {
  const MetaScope meta;
  const int64_t of_layers = 2 * (2 * 96 + 2 * 192 + 8 * 384);
  const auto count = [](PositionDelivery::Preset preset) {
    return Build(Tiny(), Context({224, 224}, false, Preset(preset)))->ParameterCount();
  };
  const int64_t plain = count(PositionDelivery::VIT);
  EXPECT_EQ(count(PositionDelivery::LAPE), plain + of_layers);
  EXPECT_EQ(count(PositionDelivery::PVG), plain + of_layers);
  EXPECT_EQ(count(PositionDelivery::MPVG), plain + of_layers + 2 * 384);
}

TEST(NestTest, DecaysMatricesOnly) {
  const auto backbone = Build(Config({8, 8}, {1, 1}, {1, 1}), Context({32, 32}, false, Preset(PositionDelivery::MPVG)));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    EXPECT_EQ(parameter.decay, parameter.tensor.dim() > 1 && !parameter.name.ends_with("pos_embed")) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

// For a single image, on maps in raster order [h·w,D]: blocks are a rule about which tokens attend to which.
class PlainNest : public PlainModel {
 public:
  PlainNest(const Module& module, const Nest& config, Size2d block, const PositionDelivery& delivery)
      : PlainModel(module, 1e-6), config_(config), block_(block), delivery_(delivery) {}

  // image [3,H,W] to tokens [N,D].
  at::Tensor Tokens(const at::Tensor& image) const {
    const int levels = config_.depths_size();
    at::Tensor x = Convolution(image.to(at::kDouble), "patch_embed.proj", config_.patch_size(), 0);
    at::Tensor pos_0, pos, last;
    int layer = 0;
    for (int l = 0; l < levels; ++l) {
      const std::string level = absl::StrCat("levels.", l, ".");
      const int64_t blocks = 1 << (levels - 1 - l);
      const Size2d map = {blocks * block_.height, blocks * block_.width};
      if (l > 0) x = Pool(x, {2 * map.height, 2 * map.width}, level + "pool.");
      // For each token of the map, its block and its place there.
      std::vector<at::Tensor> rows;
      std::vector<int64_t> block_of;
      for (int64_t i = 0; i < map.area(); ++i) {
        const int64_t row = i / map.width, column = i % map.width;
        block_of.push_back(row / block_.height * blocks + column / block_.width);
        const int64_t place = row % block_.height * block_.width + column % block_.width;
        rows.push_back(W(level + "pos_embed")[0][block_of.back()][place]);
      }
      pos_0 = pos = at::stack(rows);
      // Of the logits: tokens of different blocks don't see each other.
      at::Tensor apart = at::zeros({map.area(), map.area()}, at::kDouble);
      for (int64_t i = 0; i < map.area(); ++i) {
        for (int64_t j = 0; j < map.area(); ++j) {
          if (block_of[i] != block_of[j]) apart[i][j] = -std::numeric_limits<double>::infinity();
        }
      }

      if (delivery_.add_to_input()) x = x + pos_0;
      for (int i = 0; i < config_.depths(l); ++i, ++layer) {
        const bool first_layer = !delivery_.has_first_layer() || delivery_.first_layer();
        at::Tensor given;
        if (delivery_.layers() != PositionDelivery::NONE && (layer > 0 || first_layer)) {
          pos = Norm(delivery_.layers() == PositionDelivery::FLAT ? pos_0 : pos, absl::StrCat("pos_norms.", layer));
          given = pos;
        }
        if (delivery_.last() == layer && layer > 0) last = pos;
        // timm puts the heads' first channels before their second ones.
        x = Block(x, absl::StrCat(level, "transformer_encoder.", i), given,
                  {.heads = config_.num_heads(l), .bias = apart, .interleaved = true});
      }
    }
    const at::Tensor y = Norm(x, "norm");
    if (!delivery_.has_last()) return y;
    return y + Norm(delivery_.last() == 0 ? pos_0 : last, "last_pos_norm");
  }

 private:
  // [C,H,W] to [h·w,D].
  at::Tensor Convolution(const at::Tensor& map, const std::string& name, int64_t stride, int64_t padding) const {
    return at::conv2d(map.unsqueeze(0), W(name + ".weight"), W(name + ".bias"), stride, padding)[0].flatten(1).t();
  }

  // [h·w,D] to [h/2·w/2,D'].
  at::Tensor Pool(const at::Tensor& x, Size2d map, const std::string& name) const {
    const at::Tensor channels_first = x.t().reshape({x.size(1), map.height, map.width});
    const at::Tensor normed = Norm(Convolution(channels_first, name + "conv", 1, 1), name + "norm");
    const int64_t before = config_.pool_padding() == Nest::SAME ? 0 : 1;
    std::vector<at::Tensor> pooled;
    for (int64_t y = -before; y + before < map.height; y += 2) {
      for (int64_t x = -before; x + before < map.width; x += 2) {
        std::vector<at::Tensor> seen;
        for (int64_t i = std::max<int64_t>(y, 0); i < std::min(y + 3, map.height); ++i) {
          for (int64_t j = std::max<int64_t>(x, 0); j < std::min(x + 3, map.width); ++j) {
            seen.push_back(normed[i * map.width + j]);
          }
        }
        pooled.push_back(at::stack(seen).amax(0));
      }
    }
    return at::stack(pooled);
  }

  Nest config_;
  Size2d block_;
  PositionDelivery delivery_;
};

struct Case {
  std::string name;
  PositionDelivery delivery;
  Nest::PoolPadding padding = Nest::SYMMETRIC;
};

std::vector<Case> Cases() {
  PositionDelivery not_the_first = Preset(PositionDelivery::PVG);
  not_the_first.set_first_layer(false);
  PositionDelivery flat = Preset(PositionDelivery::MPVG);
  flat.set_layers(PositionDelivery::FLAT);
  PositionDelivery pos_4 = Preset(PositionDelivery::PVG);
  pos_4.set_last(4);
  return {{"average", Preset(PositionDelivery::VIT)},
          {"average, TensorFlow's padding", Preset(PositionDelivery::VIT), Nest::SAME},
          {"LaPE", Preset(PositionDelivery::LAPE)},
          {"PVG", Preset(PositionDelivery::PVG)},
          {"PVG but for layer 0", not_the_first},
          {"PVG, pos_4 at the last norm", pos_4},
          {"MPVG", Preset(PositionDelivery::MPVG), Nest::SAME},
          {"MPVG, flat", flat}};
}

constexpr Size2d kImage = {16, 24};  // 8×12 patches, in 4×4, 2×2 and 1 block of 2×3

Nest SmallConfig(Nest::PoolPadding padding) {
  Nest config = Config({8, 6, 12}, {2, 1, 2}, {2, 1, 3});
  config.set_patch_size(2);
  config.set_mlp_ratio(2);
  config.set_pool_padding(padding);
  return config;
}

TEST(NestTest, ComputesTheEquations) {
  c10::NoGradGuard no_grad;
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Nest config = SmallConfig(c.padding);
    const auto backbone = Build(config, Context(kImage, false, c.delivery));
    Randomize(*backbone);
    const at::Tensor images = RandomImages(2, kImage);
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, 6, 12}));
    EXPECT_EQ(map.prefix_tokens, 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    EXPECT_TRUE(map.position.equal(ByName(*backbone).at("levels.2.pos_embed")[0]));
    const PlainNest plain(*backbone, config, {2, 3}, c.delivery);
    for (int image = 0; image < 2; ++image) {
      EXPECT_LT(LargestDifference(map.tokens[image], plain.Tokens(images[image])), kRounding);
    }
  }
}

TEST(NestTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.padding), Context(kImage, false, c.delivery));
    Randomize(*backbone);
    ExpectGradients(*backbone, RandomImages(2, kImage));
  }
}

TEST(NestTest, ASingleLevelIsAPlainTransformer) {
  const Nest config = Config({8}, {2}, {2});
  const auto backbone = Build(config, Context({12, 20}, false, Preset(PositionDelivery::MPVG)));
  EXPECT_EQ(backbone->grid(), (Size2d{3, 5}));
  EXPECT_EQ(backbone->Forward(at::randn({1, 3, 12, 20})).tokens.sizes(), (at::IntArrayRef{1, 15, 8}));
}

TEST(NestBlocksTest, SplitsTheMapAndJoinsItAgain) {
  const NestBlocks blocks = {.blocks = 2, .block = {2, 3}};
  const at::Tensor map = at::arange(4 * 6).view({1, 4, 6, 1});
  const at::Tensor split = blocks.Split(map);
  ASSERT_EQ(split.sizes(), (at::IntArrayRef{1, 4, 6, 1}));
  EXPECT_EQ(split[0][1][0].item<int>(), 3);   // the second block begins in column 3
  EXPECT_EQ(split[0][1][4].item<int>(), 10);  // row 1, column 4
  EXPECT_EQ(split[0][2][0].item<int>(), 12);  // the third begins in row 2
  EXPECT_TRUE(blocks.Join(split).equal(map));
}

// ---- timm -----------------------------------------------------------------------------------------------------------

Nest FixtureConfig(Nest::PoolPadding padding) {
  Nest config = Config({8, 12, 16}, {1, 1, 2}, {1, 2, 4});
  config.set_patch_size(2);
  config.set_mlp_ratio(2);
  config.set_pool_padding(padding);
  return config;
}

TEST(NestParityTest, SymmetricPadding) {
  ExpectParity(Fixture("nest", "symmetric"), FixtureConfig(Nest::SYMMETRIC), Context({16, 16}, false));
}

TEST(NestParityTest, TensorFlowsPadding) {
  ExpectParity(Fixture("nest", "same"), FixtureConfig(Nest::SAME), Context({16, 16}, false));
}

TEST(NestParityTest, TwoLevelsWithoutQkvBias) {
  Nest config = Config({8, 12}, {2, 1}, {2, 3});
  config.set_patch_size(2);
  config.set_mlp_ratio(2);
  config.set_qkv_bias(false);
  config.set_pool_padding(Nest::SAME);
  ExpectParity(Fixture("nest", "two_levels"), config, Context({12, 12}, false));
}

TEST(NestParityTest, AdaptsPositionsOfAnotherSize) {
  const Safetensors fixture = Fixture("nest", "position_resize");
  const Nest config = Config({8, 8}, {1, 1}, {1, 1});
  for (const int64_t side : {2, 5}) {
    const auto backbone = Build(config, Context({8 * side, 8 * side}, false));
    const at::Tensor adapted = backbone->Adapt("levels.0.pos_embed", fixture.Find("table"));
    EXPECT_TRUE(adapted.allclose(fixture.Find(absl::StrCat(side, "x", side)), 0, 1e-5));
    EXPECT_FALSE(backbone->Adapt("levels.1.pos_embed", fixture.Find("table")).defined()) << "4 blocks for 1";
    EXPECT_FALSE(backbone->Adapt("norm.weight", fixture.Find("table")).defined());
  }
}

TEST(NestTest, KnowsItsNameInTimm) {
  const MetaScope meta;
  const auto timm = [](Nest config, Size2d image_size) { return Build(config, Context(image_size, false))->Timm(); };
  Nest config = Base();
  config.set_pool_padding(Nest::SAME);
  EXPECT_EQ(timm(config, {224, 224})->architecture, "nest_base_jx");
  EXPECT_EQ(timm(Small(), {224, 224})->architecture, "nest_small");
  EXPECT_EQ(timm(Tiny(), {192, 192})->architecture, "nest_tiny");
  EXPECT_FALSE(timm(Tiny(), {192, 224}).ok());
  EXPECT_FALSE(timm(Config({96, 192, 384}, {2, 2, 9}, {3, 6, 12}), {224, 224}).ok());
}

// ---- Construction ---------------------------------------------------------------------------------------------------

TEST(NestTest, StartsAsTimm) {
  const auto backbone = Build(Tiny(), Context({224, 224}, false, Preset(PositionDelivery::MPVG)));
  const auto weights = ByName(*backbone);
  for (const std::string name : {"patch_embed.proj.weight", "levels.1.pool.conv.weight", "levels.0.pos_embed",
                                 "levels.2.transformer_encoder.3.attn.qkv.weight"}) {
    EXPECT_NEAR(weights.at(name).std().item<double>(), 0.02, 0.001) << name;
  }
  for (const std::string name : {"patch_embed.proj.bias", "levels.1.pool.conv.bias", "levels.1.pool.norm.bias"}) {
    EXPECT_EQ(weights.at(name).abs().max().item<double>(), 0) << name;
  }
}

TEST(NestTest, DropoutAndDropPathActInTrainModeOnly) {
  Nest config = SmallConfig(Nest::SYMMETRIC);
  config.set_drop_path_rate(0.5);
  config.set_projection_dropout(0.1);
  config.set_attention_dropout(0.1);
  const auto backbone = Build(config, Context(kImage, false, Preset(PositionDelivery::MPVG)));
  Randomize(*backbone);
  ExpectRandomInTrainModeOnly(*backbone, RandomImages(2, kImage));
}

TEST(NestErrorsTest, ImagesThatTheBlocksDoNotTile) {
  auto errors = Errors(Tiny(), Context({224, 200}, false));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(errors["patch_size"],
            "patches of 4 in 2^2 blocks down and across (3 levels) don't tile images of 224×200 (height×width); the "
            "nearest sizes that they tile are height 224 and width 192 or 208");
}

TEST(NestErrorsTest, AllMistakesComeTogether) {
  Nest config = Config({10, -4}, {1, 2'000'000'000}, {4, 1});
  config.set_patch_size(-1);
  config.set_mlp_ratio(0);
  config.set_drop_path_rate(1);
  config.set_attention_dropout(-0.1);
  config.set_norm_epsilon(0);
  EXPECT_EQ(ErrorPaths(config, Context({224, 224}, false)),
            (std::set<std::string>{"patch_size", "embed_dims[1]", "depths[1]", "num_heads[0]", "mlp_ratio",
                                   "drop_path_rate", "attention_dropout", "norm_epsilon"}));
  auto errors = Errors(Config({96, 192}, {2, 2}, {}), Context({224, 224}, false));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(errors["num_heads"], "has 3 values, but embed_dims has 2: one a level");
  errors = Errors(Config(std::vector<int>(40, 8), {}, {}), Context({224, 224}, false));
  EXPECT_EQ(errors["embed_dims"], "must be 10 at most, found 40");
}

TEST(NestErrorsTest, AContractThatTheModelCannotMeet) {
  BackboneContext context = Context({224, 224}, false);
  context.contract.class_token = true;
  EXPECT_EQ(Errors(Tiny(), context)[""],
            "has no class token, which the pooling asks for; choose a pooling of the patch tokens");
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(12);
  EXPECT_TRUE(Errors(Tiny(), Context({224, 224}, false, delivery)).contains("depths"));
  delivery.set_last(3);
  EXPECT_EQ(Errors(Tiny(), Context({224, 224}, false, delivery))["depths"],
            "the pooling's delivery takes pos_3 to the last norm, but only layers 4 to 11 have the last level's "
            "positions; allowed are those and 0");
  delivery = Preset(PositionDelivery::VIT);
  delivery.set_add_to_input(false);
  delivery.set_last(0);
  EXPECT_EQ(Errors(Tiny(), Context({224, 224}, false, delivery)).size(), 1);
}

}  // namespace
}  // namespace graticule
