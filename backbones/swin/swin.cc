#include "backbones/swin/swin.h"

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <utility>

#include "ATen/ops/cat.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "backbones/block_options.h"
#include "backbones/checks.h"
#include "google/protobuf/repeated_field.h"
#include "nn/activation_checkpointing.h"
#include "nn/position_encoding.h"
#include "nn/relative_position_bias.h"
#include "nn/windows.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

Swin WithDefaults(const Swin& given) {
  Swin config;
  config.set_patch_size(4);
  config.set_embed_dim(96);
  const auto set_all = [](google::protobuf::RepeatedField<int32_t>* field, std::initializer_list<int32_t> values) {
    field->Add(values.begin(), values.end());
  };
  if (given.depths().empty()) set_all(config.mutable_depths(), {2, 2, 6, 2});
  if (given.num_heads().empty()) set_all(config.mutable_num_heads(), {3, 6, 12, 24});
  config.set_window_size(7);
  config.set_mlp_ratio(4);
  config.set_qkv_bias(true);
  config.set_patch_norm(true);
  config.set_norm_epsilon(1e-5);
  config.set_relative_position_bias(true);
  config.set_last_merging(true);
  config.set_position_merging(Swin::SHARED);
  config.set_drop_path_rate(0.2);
  config.MergeFrom(given);
  return config;
}

int64_t Depth(const Swin& config) {
  return std::accumulate(config.depths().begin(), config.depths().end(), int64_t{0});
}

// Of each layer.
std::vector<int64_t> Widths(const Swin& config) {
  std::vector<int64_t> widths;
  for (int stage = 0; stage < config.depths_size(); ++stage) {
    widths.insert(widths.end(), config.depths(stage), int64_t{config.embed_dim()} << stage);
  }
  return widths;
}

// Stages whose tokens are merged 2×2.
int Mergings(const Swin& config) { return config.depths_size() - (config.last_merging() ? 1 : 2); }

// The tokens of a stage, and the window of its attention.
Size2d Map(const Swin& config, Size2d image, int stage) {
  return image / (int64_t{config.patch_size()} << std::min(stage, Mergings(config)));
}

Size2d Window(const Swin& config, Size2d image, int stage) {
  const Size2d map = Map(config, image, stage);
  const bool global = !config.last_merging() && stage + 1 == config.depths_size();
  const int64_t most = global ? std::max(map.height, map.width) : config.window_size();
  return {std::min(most, map.height), std::min(most, map.width)};
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const Swin& config, const BackboneContext& context) {
  FieldErrors errors;
  CheckPrefixTokens(errors, context.contract, PrefixTokens::kNone);
  const int stages = config.depths_size();
  bool has_stages = true;
  for (int stage = 0; stage < stages; ++stage) {
    has_stages &= CheckCount(errors, absl::StrCat("depths[", stage, "]"), config.depths(stage), kMostLayers);
  }
  if (has_stages && Depth(config) > kMostLayers) {
    has_stages = false;
    errors.Add("depths", absl::StrCat("may be ", kMostLayers, " layers in all, found ", Depth(config)));
  }
  if (!config.last_merging() && stages < 2) {
    has_stages = false;
    errors.Add("last_merging", "is false, but a single stage has no merging; allowed with 2 stages or more");
  }
  if (config.num_heads_size() != stages) {
    errors.Add("num_heads", absl::StrCat("must be one for each of the ", stages, " stages in `depths`, found ",
                                         config.num_heads_size()));
  }
  if (CheckCount(errors, "embed_dim", config.embed_dim(), kMostWidth)) {
    int64_t width = config.embed_dim();
    for (int stage = 0; stage < stages; ++stage, width *= 2) {
      if (width > kMostWidth) {
        errors.Add("embed_dim", absl::StrCat("doubles from stage to stage and may be ", kMostWidth, ", found ", width,
                                             " in stage ", stage));
        has_stages = false;
        break;
      }
      if (stage < config.num_heads_size()) {
        CheckHeads(errors, absl::StrCat("num_heads[", stage, "]"), config.num_heads(stage), width);
      }
    }
    // Of the narrowest stage, and of the widest.
    if (CheckMlpRatio(errors, "mlp_ratio", config.mlp_ratio(), config.embed_dim())) {
      CheckMlpRatio(errors, "mlp_ratio", config.mlp_ratio(), std::min(width, kMostWidth));
    }
  } else {
    has_stages = false;
  }
  const bool has_window = CheckPositive(errors, "window_size", config.window_size());
  if (CheckCount(errors, "patch_size", config.patch_size(), kMostWidth) && has_stages) {
    const int mergings = Mergings(config);
    const std::string what = absl::StrCat("patches of ", config.patch_size(), ", merged 2×2 ", mergings, " times,");
    if (CheckTiles(errors, "patch_size", what, int64_t{config.patch_size()} << mergings, context.image_size) &&
        has_window) {
      for (int stage = 0; stage < stages; ++stage) {
        const Size2d window = Window(config, context.image_size, stage);
        if (window.area() <= kMostRelatedTokens) continue;
        errors.Add("window_size",
                   absl::StrCat("leaves windows of ", window.height, "×", window.width, " tokens in stage ", stage,
                                "; allowed are ", kMostRelatedTokens, " tokens"));
        break;
      }
    }
  }
  if (has_stages) {
    errors.Add(config.absolute_position() ? "depths" : "absolute_position",
               CheckPositionDelivery(context.contract.delivery, Depth(config), config.absolute_position()));
  }
  CheckLayerFields(errors, config);
  CheckRate(errors, "position_dropout", config.position_dropout());
  return errors.ToStatus();
}

}  // namespace

PatchMerging::PatchMerging(int64_t width, bool join, double norm_epsilon)
    : side_(join ? 2 : 1),
      norm_(side_ * side_ * width, norm_epsilon),
      reduction_(side_ * side_ * width, 2 * width, /*bias=*/false) {
  RegisterModule("norm", &norm_);
  RegisterModule("reduction", &reduction_);
}

at::Tensor PatchMerging::Forward(const at::Tensor& x) const {
  const at::Tensor joined =
      side_ == 1 ? x : x.unflatten(2, {-1, side_}).unflatten(1, {-1, side_}).permute({0, 1, 3, 4, 2, 5}).flatten(3);
  return reduction_.Forward(norm_.Forward(joined));
}

at::Tensor PatchMerging::Mean(const at::Tensor& x) const {
  const at::Tensor mean = x.unflatten(2, {-1, side_}).unflatten(1, {-1, side_}).mean(at::IntArrayRef{2, 4});
  return at::cat({mean, mean}, -1);
}

SwinBlock::SwinBlock(bool conditional_position, const TransformerBlockOptions& options,
                     std::unique_ptr<AttentionEncoding> encoding)
    : block_(options, std::move(encoding)) {
  if (conditional_position) {
    conditional_position_.emplace("cpe", options.attention.width);
    RegisterModule("", &*conditional_position_);
  }
  RegisterModule("", &block_);
}

at::Tensor SwinBlock::Forward(const at::Tensor& x, const at::Tensor& position) const {
  const auto layer = [this](const at::Tensor& x, const at::Tensor& position) {
    if (!conditional_position_) return block_.Forward(x, position);
    const at::Tensor placed = conditional_position_->Forward(x.flatten(1, 2), {x.size(1), x.size(2)});
    return block_.Forward(placed.view(x.sizes()), position);
  };
  return Checkpointed(layer, x, position);
}

absl::StatusOr<std::unique_ptr<Backbone>> SwinBackbone::Create(const Swin& given, const BackboneContext& context) {
  const Swin config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new SwinBackbone(config, context));
}

SwinBackbone::SwinBackbone(const Swin& config, const BackboneContext& context)
    : config_(config),
      patch_embed_(context.channels, config.patch_size(), config.embed_dim()),
      position_dropout_(config.position_dropout()),
      norm_(Widths(config).back(), config.norm_epsilon()),
      // As in the papers of LaPE and MPVG: their counts for Swin have a norm for layer 0.
      delivery_(WithFirstLayerByDefault(context.contract.delivery), Widths(config), Widths(config).back(),
                config.norm_epsilon()) {
  RegisterModule("patch_embed", &patch_embed_);
  if (config.patch_norm()) {
    patch_norm_.emplace(config.embed_dim(), config.norm_epsilon());
    RegisterModule("patch_embed.norm", &*patch_norm_);
  }
  if (config.absolute_position()) {
    const Size2d map = Map(config, context.image_size, 0);
    position_ =
        RegisterParameter("absolute_pos_embed", NewPositionTable(PositionEncoding::LEARNED, map, 0, config.embed_dim()),
                          {.decay = false});
  }
  RegisterModule("pos_drop", &position_dropout_);

  int64_t layer = 0;
  for (int s = 0; s < config.depths_size(); ++s) {
    Stage stage{.width = int64_t{config.embed_dim()} << s,
                .heads = config.num_heads(s),
                .map = Map(config, context.image_size, s),
                .window = Window(config, context.image_size, s)};
    const std::string name = absl::StrCat("layers.", s);
    if (s > 0) {
      const bool join = s <= Mergings(config);
      stage.merging = std::make_unique<PatchMerging>(stage.width / 2, join, config.norm_epsilon());
      RegisterModule(name + ".downsample", stage.merging.get());
    }
    TransformerBlockOptions options = BlockOptions(config, stage.width, stage.heads);
    for (int b = 0; b < config.depths(s); ++b) {
      // Every second layer's windows lie across the borders of the others, along the axes where there are any.
      const auto shift = [&](int64_t map, int64_t window) { return b % 2 == 1 && window < map ? window / 2 : 0; };
      options.attention.windows =
          Windows(stage.map, stage.window,
                  {shift(stage.map.height, stage.window.height), shift(stage.map.width, stage.window.width)});
      options.drop_path = DropPathRate(config.drop_path_rate(), layer++, Depth(config));
      stage.blocks.push_back(std::make_unique<SwinBlock>(
          config.conditional_position(), options,
          config.relative_position_bias() ? std::make_unique<RelativePositionBias>(stage.window, stage.heads)
                                          : nullptr));
      RegisterModule(absl::StrCat(name, ".blocks.", b), stage.blocks.back().get());
    }
    stages_.push_back(std::move(stage));
  }
  RegisterModule("norm", &norm_);
  RegisterModule("", &delivery_);
}

TokenMap SwinBackbone::Forward(const at::Tensor& images) {
  at::Tensor x = patch_embed_.Forward(images);
  if (patch_norm_) x = patch_norm_->Forward(x);
  const Size2d first = stages_.front().map;
  CHECK_EQ(x.size(1), first.area()) << "images are not of the size that the backbone was built for";
  const auto as_map = [&](const at::Tensor& tokens) { return tokens.unflatten(1, {first.height, first.width}); };

  DeliveredPosition delivered = delivery_.Deliver(position_.defined() ? as_map(position_) : position_);
  x = position_dropout_.Forward(delivered.AddAtInput(as_map(x)));  // [B,h,w,C]
  int64_t layer = 0;
  for (const Stage& stage : stages_) {
    if (stage.merging != nullptr) {
      x = stage.merging->Forward(x);
      delivered.Map([&](const at::Tensor& position) {
        return config_.position_merging() == Swin::MEAN ? stage.merging->Mean(position)
                                                        : stage.merging->Forward(position);
      });
    }
    for (const auto& block : stage.blocks) x = block->Forward(x, delivered.AtLayer(layer++));
  }

  x = delivered.AddAtLastNorm(norm_.Forward(x));
  return {.tokens = x.flatten(1, 2), .grid = grid(), .position = position_};
}

at::Tensor SwinBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  if (name == "absolute_pos_embed" && position_.defined()) {
    return AdaptPositionTable(loaded, 0, stages_.front().map, config_.embed_dim());
  }
  for (size_t s = 0; s < stages_.size(); ++s) {
    if (name.starts_with(absl::StrCat("layers.", s, ".")) && name.ends_with("relative_position_bias_table")) {
      return AdaptRelativePositionBias(loaded, stages_[s].window, stages_[s].heads);
    }
  }
  return at::Tensor();
}

std::vector<WeightLayout> SwinBackbone::Layouts() const {
  // Its stages end with the merging that ours begin with. PositionalLabel's code has the same names.
  std::vector<std::pair<std::string, std::string>> names = {{"head.fc.", "head."}};
  for (size_t s = 1; s < stages_.size(); ++s) {
    names.emplace_back(absl::StrCat("layers.", s, ".downsample."), absl::StrCat("layers.", s - 1, ".downsample."));
  }
  return {{.name = "microsoft/Swin-Transformer",
           .name_there = [names](const std::string& ours) { return absl::StrReplaceAll(ours, names); },
           .is_derived =
               [](const std::string& theirs) {
                 return theirs.ends_with(".relative_position_index") || theirs.ends_with(".attn_mask");
               }}};
}

absl::StatusOr<TimmModel> SwinBackbone::Timm() const {
  const auto lacks = [](const std::string& what) {
    return absl::UnimplementedError(absl::StrCat("timm has no Swin transformer with ", what));
  };
  if (position_.defined()) return lacks("absolute_position");
  if (config_.conditional_position()) return lacks("conditional_position");
  if (!config_.relative_position_bias()) return lacks("relative_position_bias: false");
  if (!config_.patch_norm()) return lacks("patch_norm: false");
  if (!config_.last_merging()) return lacks("last_merging: false");
  if (config_.norm_epsilon() != 1e-5) return lacks(absl::StrCat("a norm_epsilon of ", config_.norm_epsilon()));
  const bool is_base = config_.embed_dim() == 128;
  const std::string size = is_base ? "base" : Depth(config_) > 12 ? "small" : "tiny";
  return TimmModel{
      .architecture = absl::StrCat("swin_", size, "_patch4_window7_224"),
      .arguments = {{"patch_size", int64_t{config_.patch_size()}},
                    {"embed_dim", int64_t{config_.embed_dim()}},
                    {"depths", std::vector<int64_t>(config_.depths().begin(), config_.depths().end())},
                    {"num_heads", std::vector<int64_t>(config_.num_heads().begin(), config_.num_heads().end())},
                    {"window_size", int64_t{config_.window_size()}},
                    {"mlp_ratio", config_.mlp_ratio()},
                    {"qkv_bias", config_.qkv_bias()}}};
}

namespace {

const Registration<Backbone, Swin> kRegistration(
    "Swin transformer: attention within shifted windows, in stages",
    "patch_size: 4 embed_dim: 16 depths: [2, 2] num_heads: [2, 4] window_size: 4", &SwinBackbone::Create);

}  // namespace
}  // namespace graticule
