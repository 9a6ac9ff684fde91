#include "backbones/swin/swin.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/full.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros.h"
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

Swin Config(const std::string& text) {
  Swin config;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

// ---- Parameter and multiply-add counts ------------------------------------------------------------------------------

constexpr char kTiny[] = "";
constexpr char kSmall[] = "depths: [2, 2, 18, 2]";
constexpr char kBase[] = "embed_dim: 128 depths: [2, 2, 18, 2] num_heads: [4, 8, 16, 32]";

struct Count {
  std::string config;
  PositionDelivery::Preset preset;
  int64_t parameters;  // with a head of 1000 classes
};

TEST(SwinTest, HasThePublishedNumberOfParameters) {
  const std::vector<Count> counts = {
      {kTiny, PositionDelivery::VIT, 28'288'354},
      {kSmall, PositionDelivery::VIT, 49'606'258},
      {kBase, PositionDelivery::VIT, 87'768'224},
      {"absolute_position: true", PositionDelivery::VIT, 28'589'410},
      {"absolute_position: true", PositionDelivery::LAPE, 28'598'242},
      {"absolute_position: true", PositionDelivery::PVG, 28'598'242},
      {"absolute_position: true", PositionDelivery::MPVG, 28'599'778},
      {"absolute_position: true position_merging: MEAN", PositionDelivery::MPVG, 28'599'778},
  };
  const MetaScope meta;
  for (const Count& count : counts) {
    const auto backbone = Build(Config(count.config), Context({224, 224}, false, Preset(count.preset)));
    EXPECT_EQ(backbone->ParameterCount() + backbone->width() * 1000 + 1000, count.parameters)
        << count.config << " " << PositionDelivery::Preset_Name(count.preset);
  }
}

// PositionalLabel's counts have the classifier and the label's head, of these numbers of parameters.
TEST(SwinTest, HasThePublishedNumberOfParametersWithPositionalLabels) {
  constexpr int64_t kClassifier = 769'000, kRelativeHead = 508'201, kAbsoluteHead = 259'588;
  const MetaScope meta;
  const std::string released = "relative_position_bias: false conditional_position: true ";
  const auto relative = Build(Config(released), Context({224, 224}, false));
  EXPECT_EQ(relative->ParameterCount() + kClassifier + kRelativeHead, 28'817'393);
  EXPECT_EQ(relative->grid(), (Size2d{7, 7}));
  const auto absolute = Build(Config(released + "last_merging: false"), Context({224, 224}, false));
  EXPECT_EQ(absolute->ParameterCount() + kClassifier + kAbsoluteHead, 27'681'740);
  EXPECT_EQ(absolute->grid(), (Size2d{14, 14}));
}

TEST(SwinTest, HasThePublishedNumberOfMultiplyAdds) {
  const std::vector<std::pair<std::string, double>> published = {{kTiny, 4.5e9}, {kSmall, 8.7e9}, {kBase, 15.4e9}};
  const MetaScope meta;
  for (const auto& [config, macs] : published) {
    const auto backbone = Build(Config(config), Context({224, 224}, false));
    EXPECT_NEAR(CountMacs(*backbone, {224, 224}).total + backbone->width() * 1000, macs, macs / 100) << config;
  }
}

TEST(SwinTest, DecaysMatricesButNoPositions) {
  const auto backbone = Build(Config("embed_dim: 12 absolute_position: true conditional_position: true"),
                              Context({32, 32}, false, Preset(PositionDelivery::MPVG)));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    const bool matrix = parameter.name.ends_with("weight") && parameter.name.find("norm") == std::string::npos &&
                        parameter.name.find("cpe") == std::string::npos;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    EXPECT_TRUE(parameter.trainable) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

// For a single image whose maps the windows tile; maps are [h,w,C].
class PlainSwin : public PlainModel {
 public:
  // `config` with window_size, depths, num_heads and patch_size.
  PlainSwin(const Module& module, const Swin& config, const PositionDelivery& delivery)
      : PlainModel(module, 1e-5), config_(config), delivery_(delivery) {}

  // image [3,H,W] to tokens [N,C].
  at::Tensor Tokens(const at::Tensor& image) const {
    const Size2d first = Size2d{image.size(1), image.size(2)} / config_.patch_size();
    const auto as_map = [&](const at::Tensor& tokens) { return tokens[0].unflatten(0, {first.height, first.width}); };
    const at::Tensor patches = Patches(image.unsqueeze(0), "patch_embed.proj", config_.patch_size());
    at::Tensor x = as_map(Norm(patches, "patch_embed.norm"));
    std::map<int, at::Tensor> pos;  // pos_k at the stage's grid and width
    at::Tensor previous;            // pos_{l-1}
    if (Has("absolute_pos_embed")) {
      pos[0] = previous = as_map(W("absolute_pos_embed"));
      if (delivery_.add_to_input()) x = x + previous;
    }
    const bool keeps_last_grid = config_.has_last_merging() && !config_.last_merging();
    int layer = 0;
    for (int s = 0; s < config_.depths_size(); ++s) {
      const bool global = keeps_last_grid && s + 1 == config_.depths_size();
      if (s > 0) {
        const std::string name = absl::StrCat("layers.", s, ".downsample.");
        const auto follow = [&](const at::Tensor& map) {
          return config_.position_merging() == Swin::MEAN ? Mean(map, !global) : Merge(map, name, !global);
        };
        x = Merge(x, name, !global);
        if (previous.defined()) previous = follow(previous);
        for (auto& [k, map] : pos) map = follow(map);
      }
      for (int b = 0; b < config_.depths(s); ++b, ++layer) {
        const std::string block = absl::StrCat("layers.", s, ".blocks.", b);
        if (config_.conditional_position()) x = x + DepthWise(x, block + ".cpe");
        const bool first_layer = !delivery_.has_first_layer() || delivery_.first_layer();
        at::Tensor given;
        if (delivery_.layers() != PositionDelivery::NONE && (layer > 0 || first_layer)) {
          previous =
              Norm(delivery_.layers() == PositionDelivery::FLAT ? pos[0] : previous, absl::StrCat("pos_norms.", layer));
          given = previous.flatten(0, 1);
        }
        if (layer > 0 && previous.defined()) pos[layer] = previous;
        const Size2d map = {x.size(0), x.size(1)};
        const int64_t window = global ? std::max(map.height, map.width) : config_.window_size();
        const at::Tensor bias = Bias(map, block + ".attn.relative_position_bias_table", config_.num_heads(s), window,
                                     b % 2 == 1 ? window / 2 : 0);
        x = Block(x.flatten(0, 1), block, given, {.heads = config_.num_heads(s), .bias = bias}).view_as(x);
      }
    }
    const at::Tensor y = Norm(x, "norm");
    return Sum(y, delivery_.has_last() ? Norm(pos.at(delivery_.last()), "last_pos_norm") : at::Tensor()).flatten(0, 1);
  }

 private:
  // The upper left, lower left, upper right and lower right of each 2×2 tokens, in this order as in Swin's paper.
  static std::vector<at::Tensor> Neighbours(const at::Tensor& map) {
    std::vector<at::Tensor> neighbours;
    for (const auto& [down, right] : {std::pair(0, 0), std::pair(1, 0), std::pair(0, 1), std::pair(1, 1)}) {
      neighbours.push_back(map.slice(0, down, c10::nullopt, 2).slice(1, right, c10::nullopt, 2));
    }
    return neighbours;
  }

  at::Tensor Merge(const at::Tensor& map, const std::string& name, bool join) const {
    return Affine(Norm(join ? at::cat(Neighbours(map), -1) : map, name + "norm"), name + "reduction");
  }

  static at::Tensor Mean(const at::Tensor& map, bool join) {
    const at::Tensor mean = join ? at::stack(Neighbours(map)).mean(0) : map;
    return at::cat({mean, mean}, -1);
  }

  at::Tensor DepthWise(const at::Tensor& map, const std::string& name) const {
    const at::Tensor channels_first = map.permute({2, 0, 1}).unsqueeze(0);
    return at::conv2d(channels_first, W(name + ".weight"), W(name + ".bias"), /*stride=*/1, /*padding=*/1,
                      /*dilation=*/1, /*groups=*/map.size(2))[0]
        .permute({1, 2, 0});
  }

  // Of the attention's logits. A token attends to those whose window it shares. Shifted windows begin `shift` further
  // down and right; the strips above and left of the first ones are cut into windows of their own.
  at::Tensor Bias(Size2d map, const std::string& table_name, int64_t heads, int64_t window, int64_t shift) const {
    // Along an axis that one window covers nothing is shifted.
    const auto window_of = [&](int64_t at, int64_t length) {
      return length <= window ? 0 : (at + window - shift) / window;
    };
    const int64_t columns = 2 * std::min(window, map.width) - 1;
    const int64_t middle = (std::min(window, map.height) - 1) * columns + std::min(window, map.width) - 1;
    at::Tensor bias = at::full({map.area(), map.area(), heads}, -std::numeric_limits<double>::infinity(), at::kDouble);
    const at::Tensor table = Has(table_name) ? W(table_name) : at::zeros({(2 * middle + 1), heads}, at::kDouble);
    for (int64_t t = 0; t < map.area(); ++t) {
      for (int64_t u = 0; u < map.area(); ++u) {
        const int64_t row = t / map.width, column = t % map.width, r = u / map.width, c = u % map.width;
        if (window_of(row, map.height) != window_of(r, map.height)) continue;
        if (window_of(column, map.width) != window_of(c, map.width)) continue;
        bias[t][u].copy_(table[middle + (row - r) * columns + column - c]);
      }
    }
    return bias.permute({2, 0, 1});
  }

  Swin config_;
  PositionDelivery delivery_;
};

struct Case {
  std::string name;
  std::string config;  // beside that of SmallConfig
  PositionDelivery delivery;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, const std::string& config, PositionDelivery::Preset preset,
                       const std::function<void(PositionDelivery&)>& change = nullptr) {
    PositionDelivery delivery = Preset(preset);
    if (change) change(delivery);
    cases.push_back({name, config, delivery});
  };
  const std::string position = "absolute_position: true ";
  add("Swin", "", PositionDelivery::VIT);
  add("default", position, PositionDelivery::VIT);
  add("LaPE", position, PositionDelivery::LAPE);
  add("PVG", position, PositionDelivery::PVG);
  add("MPVG", position, PositionDelivery::MPVG);
  add("MPVG, position merged without weights", position + "position_merging: MEAN", PositionDelivery::MPVG);
  add("MPVG without layer 0", position, PositionDelivery::MPVG, [](auto& d) { d.set_first_layer(false); });
  add("MPVG, flat", position, PositionDelivery::MPVG, [](auto& d) { d.set_layers(PositionDelivery::FLAT); });
  add("pos_1 at the last norm", position, PositionDelivery::PVG, [](auto& d) { d.set_last(1); });
  add("pos_3 at the last norm", position, PositionDelivery::PVG, [](auto& d) { d.set_last(3); });
  const std::string released = "relative_position_bias: false conditional_position: true ";
  add("PositionalLabel", released, PositionDelivery::VIT);
  add("PositionalLabel at 14×14", released + "last_merging: false", PositionDelivery::VIT);
  add("all at once", position + "conditional_position: true last_merging: false", PositionDelivery::MPVG);
  add("all at once, position merged without weights", position + "last_merging: false position_merging: MEAN",
      PositionDelivery::MPVG);
  return cases;
}

constexpr Size2d kImage = {16, 24};  // 8×12 patches of 2, then 4×6

constexpr char kSmallModel[] =
    "patch_size: 2 embed_dim: 4 depths: [2, 2] num_heads: [2, 2] window_size: 2 mlp_ratio: 2 ";

Swin SmallConfig(const std::string& rest) { return Config(kSmallModel + rest + " drop_path_rate: 0"); }

TEST(SwinTest, ComputesTheEquations) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    for (const int window : {2, 4}) {
      Swin config = SmallConfig(c.config);
      config.set_window_size(window);
      // Windows of 4 don't tile 4×6 tokens; the whole of 4×4 is one.
      const Size2d image = window == 4 ? Size2d{16, 16} : kImage;
      const auto backbone = Build(config, Context(image, false, c.delivery));
      Randomize(*backbone);
      const at::Tensor images = RandomImages(2, image);
      const TokenMap map = backbone->Forward(images);
      EXPECT_EQ(map.grid, backbone->grid());
      ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, map.grid.area(), 8}));
      EXPECT_EQ(map.prefix_tokens, 0);
      EXPECT_EQ(map.position.defined(), config.absolute_position());
      const PlainSwin plain(*backbone, config, c.delivery);
      for (int image = 0; image < 2; ++image) {
        EXPECT_LT(LargestDifference(map.tokens[image], plain.Tokens(images[image])), kRounding);
      }
    }
  }
}

TEST(SwinTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.config), Context(kImage, false, c.delivery));
    Randomize(*backbone);
    ExpectGradients(*backbone, RandomImages(2, kImage));
  }
}

// ---- timm and the official codes
// -------------------------------------------------------------------------------------

Swin FixtureConfig(const std::string& rest) {
  return Config("patch_size: 2 embed_dim: 8 depths: [2, 2] num_heads: [2, 4] window_size: 4 drop_path_rate: 0 " + rest);
}

TEST(SwinParityTest, ShiftedWindows) {
  ExpectParity(Fixture("swin", "shifted"), FixtureConfig(""), Context({32, 32}, false));
}

TEST(SwinParityTest, WindowsThatDoNotTileTheMap) {
  ExpectParity(Fixture("swin", "padded"), FixtureConfig("mlp_ratio: 2"), Context({20, 36}, false));
}

TEST(SwinParityTest, WindowsLargerThanTheMap) {
  ExpectParity(Fixture("swin", "clipped"), FixtureConfig("qkv_bias: false"), Context({8, 24}, false));
}

constexpr char kOfficial[] = "microsoft/Swin-Transformer";

TEST(SwinParityTest, AbsolutePosition) {
  ExpectParity(Fixture("swin", "absolute_position"), FixtureConfig("absolute_position: true"), Context({16, 16}, false),
               {.layout = kOfficial});
}

TEST(SwinParityTest, ConditionalPosition) {
  ExpectParity(Fixture("swin", "conditional_position"),
               FixtureConfig("relative_position_bias: false conditional_position: true"), Context({16, 16}, false),
               {.layout = kOfficial});
}

TEST(SwinParityTest, LastGridKept) {
  ExpectParity(Fixture("swin", "last_grid_kept"),
               FixtureConfig("relative_position_bias: false conditional_position: true last_merging: false"),
               Context({16, 16}, false), {.layout = kOfficial});
}

TEST(SwinParityTest, AdaptsBiasesOfOtherWindows) {
  const Safetensors fixture = Fixture("swin", "bias_resize");
  const std::string name = "layers.1.blocks.0.attn.relative_position_bias_table";
  for (const int window : {6, 3, 2}) {
    const Swin config = Config(absl::StrCat("embed_dim: 12 depths: [2, 2] num_heads: [1, 3] window_size: ", window));
    const auto backbone = Build(config, Context({96, 96}, false));
    const at::Tensor adapted = backbone->Adapt(name, fixture.Find("table"));
    ASSERT_EQ(adapted.sizes(), ByName(*backbone).at(name).sizes());
    EXPECT_TRUE(adapted.allclose(fixture.Find(absl::StrCat(window)), 0, 1e-5));
    EXPECT_FALSE(
        backbone->Adapt("layers.0.blocks.0.attn.relative_position_bias_table", fixture.Find("table")).defined())
        << "of 3 heads instead of 1";
  }
}

TEST(SwinTest, AdaptsAbsolutePositionsOfAnotherGrid) {
  const auto backbone = Build(Config("embed_dim: 12 absolute_position: true"), Context({64, 96}, false));
  const at::Tensor adapted = backbone->Adapt("absolute_pos_embed", at::randn({1, 8 * 8, 12}));
  EXPECT_EQ(adapted.sizes(), (at::IntArrayRef{1, 16 * 24, 12}));
  EXPECT_FALSE(backbone->Adapt("norm.weight", at::randn({1, 64, 12})).defined());
  const auto without = Build(Config("embed_dim: 12"), Context({64, 96}, false));
  EXPECT_FALSE(without->Adapt("absolute_pos_embed", at::randn({1, 64, 12})).defined());
}

TEST(SwinTest, NamesOfTheOfficialCode) {
  const MetaScope meta;
  const auto backbone = Build(Swin(), Context({224, 224}, false));
  const WeightLayout layout = backbone->Layouts().at(0);
  EXPECT_EQ(layout.name_there("layers.3.downsample.norm.bias"), "layers.2.downsample.norm.bias");
  EXPECT_EQ(layout.name_there("layers.1.downsample.reduction.weight"), "layers.0.downsample.reduction.weight");
  EXPECT_EQ(layout.name_there("layers.1.blocks.1.norm1.weight"), "layers.1.blocks.1.norm1.weight");
  EXPECT_EQ(layout.name_there("head.fc.weight"), "head.weight");
  EXPECT_TRUE(layout.is_derived("layers.0.blocks.1.attn_mask"));
  EXPECT_TRUE(layout.is_derived("layers.0.blocks.1.attn.relative_position_index"));
  EXPECT_FALSE(layout.is_derived("layers.0.blocks.1.attn.qkv.weight"));
}

TEST(SwinTest, ItsModelInTimm) {
  const MetaScope meta;
  const auto timm = [](const std::string& config) { return Build(Config(config), Context({224, 224}, false))->Timm(); };
  EXPECT_EQ(timm(kTiny)->architecture, "swin_tiny_patch4_window7_224");
  EXPECT_EQ(timm(kSmall)->architecture, "swin_small_patch4_window7_224");
  EXPECT_EQ(timm(kBase)->architecture, "swin_base_patch4_window7_224");
  EXPECT_EQ(std::get<std::vector<int64_t>>(timm(kBase)->arguments.at("num_heads")),
            (std::vector<int64_t>{4, 8, 16, 32}));
  EXPECT_EQ(std::get<int64_t>(timm("window_size: 14")->arguments.at("window_size")), 14);
  for (const std::string config :
       {"absolute_position: true", "conditional_position: true", "relative_position_bias: false", "patch_norm: false",
        "last_merging: false", "norm_epsilon: 1e-6"}) {
    const absl::Status status = timm(config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << config;
    const std::string field = config.substr(0, config.find(':'));
    EXPECT_NE(std::string(status.message()).find(field), std::string::npos) << status;
  }
}

// ---- Construction and modes -----------------------------------------------------------------------------------------

TEST(SwinTest, StartsAsSwin) {
  const auto backbone =
      Build(Config("absolute_position: true"), Context({224, 224}, false, Preset(PositionDelivery::MPVG)));
  const auto weights = ByName(*backbone);
  EXPECT_NEAR(weights.at("layers.2.blocks.3.attn.qkv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("layers.2.blocks.3.attn.relative_position_bias_table").std().item<double>(), 0.02, 0.002);
  EXPECT_NEAR(weights.at("layers.3.downsample.reduction.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("absolute_pos_embed").std().item<double>(), 0.02, 0.0005);
  EXPECT_EQ(weights.at("layers.2.blocks.3.mlp.fc1.bias").abs().max().item<double>(), 0);
  for (const std::string norm : {"norm", "patch_embed.norm", "layers.1.downsample.norm", "pos_norms.0"}) {
    EXPECT_TRUE(weights.at(norm + ".weight").eq(1).all().item<bool>()) << norm;
    EXPECT_TRUE(weights.at(norm + ".bias").eq(0).all().item<bool>()) << norm;
  }
}

TEST(SwinTest, ForwardRunsOnTheMetaDevice) {
  const MetaScope meta;
  const auto backbone = Build(Config("absolute_position: true conditional_position: true"),
                              Context({160, 224}, false, Preset(PositionDelivery::MPVG)));
  const TokenMap map = backbone->Forward(at::randn({2, 3, 160, 224}, at::TensorOptions().device(at::kMeta)));
  EXPECT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, 5 * 7, 768}));
}

TEST(SwinTest, DropoutAndDropPathActInTrainModeOnly) {
  for (const std::string field : {"drop_path_rate", "drop_path_rate: 0 position_dropout",
                                  "drop_path_rate: 0 projection_dropout", "drop_path_rate: 0 attention_dropout"}) {
    const auto backbone = Build(Config(kSmallModel + field + ": 0.5"), Context(kImage, false));
    Randomize(*backbone);
    SCOPED_TRACE(field);
    ExpectRandomInTrainModeOnly(*backbone, RandomImages(4, kImage));
  }
}

TEST(SwinErrorsTest, ImagesThatThePatchesAndTheirMergingsDoNotTile) {
  auto errors = Errors(Config(""), Context({224, 240}, false));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(
      errors["patch_size"],
      "patches of 4, merged 2×2 3 times, don't tile images of 224×240 (height×width); the nearest sizes that they "
      "tile are height 224 and width 224 or 256");
  EXPECT_TRUE(Errors(Config("last_merging: false"), Context({224, 240}, false)).empty());
}

TEST(SwinErrorsTest, AllMistakesComeTogether) {
  const Swin config = Config(
      "embed_dim: 10 depths: [2, 0] num_heads: [3, 4, 5] window_size: 0 mlp_ratio: 0 drop_path_rate: 1 "
      "position_dropout: -1 projection_dropout: 2 attention_dropout: -0.1 norm_epsilon: 0 patch_size: -4");
  EXPECT_EQ(ErrorPaths(config, Context({224, 224}, false)),
            (std::set<std::string>{"depths[1]", "num_heads", "num_heads[0]", "window_size", "mlp_ratio",
                                   "drop_path_rate", "position_dropout", "projection_dropout", "attention_dropout",
                                   "norm_epsilon", "patch_size"}));
}

TEST(SwinErrorsTest, NumbersThatWouldTakeTheMemory) {
  EXPECT_TRUE(
      Errors(Config("depths: [2000000000, 2] num_heads: [3, 6]"), Context({224, 224}, false)).contains("depths[0]"));
  EXPECT_TRUE(Errors(Config("depths: [600, 600] num_heads: [3, 6]"), Context({224, 224}, false)).contains("depths"));
  EXPECT_TRUE(Errors(Config("embed_dim: 2000000000"), Context({224, 224}, false)).contains("embed_dim"));
  EXPECT_TRUE(Errors(Config("embed_dim: 16384"), Context({224, 224}, false)).contains("embed_dim"))
      << "131072 in the last stage";
  EXPECT_TRUE(Errors(Config("window_size: 2000000000"), Context({512, 512}, false)).contains("window_size"));
  EXPECT_TRUE(Errors(Config("patch_size: 2000000000"), Context({224, 224}, false)).contains("patch_size"));
}

TEST(SwinErrorsTest, ContractsThatItCannotMeet) {
  BackboneContext context = Context({224, 224}, false);
  context.contract.class_token = true;
  EXPECT_TRUE(Errors(Config(""), context).contains(""));
  EXPECT_TRUE(
      Errors(Config(""), Context({224, 224}, false, Preset(PositionDelivery::MPVG))).contains("absolute_position"));
  context = Context({224, 224}, false, Preset(PositionDelivery::PVG));
  context.contract.delivery.set_last(12);
  EXPECT_TRUE(Errors(Config("absolute_position: true"), context).contains("depths"));
  EXPECT_TRUE(Errors(Config("depths: 2 num_heads: 3 last_merging: false"), Context({224, 224}, false))
                  .contains("last_merging"));
}

}  // namespace
}  // namespace graticule
