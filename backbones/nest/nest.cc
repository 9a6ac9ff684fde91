#include "backbones/nest/nest.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ATen/ops/max_pool2d.h"
#include "absl/strings/str_cat.h"
#include "backbones/block_options.h"
#include "backbones/checks.h"
#include "nn/position_encoding.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using Values = google::protobuf::RepeatedField<int32_t>;

constexpr int kMostLevels = 10;
constexpr double kStd = 0.02;  // of positions and convolutions at the start

Nest WithDefaults(const Nest& given) {
  Nest config;
  config.set_patch_size(4);
  config.set_mlp_ratio(4);
  config.set_qkv_bias(true);
  config.set_norm_epsilon(1e-6);
  config.set_pool_padding(Nest::SYMMETRIC);
  config.MergeFrom(given);
  const auto fill = [](Values& values, std::initializer_list<int32_t> defaults) {
    if (values.empty()) values.Assign(defaults.begin(), defaults.end());
  };
  fill(*config.mutable_embed_dims(), {96, 192, 384});
  fill(*config.mutable_depths(), {2, 2, 8});
  fill(*config.mutable_num_heads(), {3, 6, 12});
  return config;
}

int64_t Sum(const Values& values) { return std::accumulate(values.begin(), values.end(), int64_t{0}); }

// The width of each layer.
std::vector<int64_t> Widths(const Nest& config) {
  std::vector<int64_t> widths;
  for (int level = 0; level < config.depths_size(); ++level) {
    widths.insert(widths.end(), config.depths(level), config.embed_dims(level));
  }
  return widths;
}

void CheckDelivery(FieldErrors& errors, const Nest& config, const PositionDelivery& delivery) {
  const int64_t layers = Sum(config.depths()), first_of_last = layers - *config.depths().rbegin();
  if (const absl::Status fits = CheckPositionDelivery(delivery, layers, /*has_position=*/true); !fits.ok()) {
    errors.Add("depths", fits);
  } else if (delivery.last() > 0 && delivery.last() < first_of_last) {
    errors.Add("depths", absl::StrCat("the pooling's delivery takes pos_", delivery.last(),
                                      " to the last norm, but only layers ", first_of_last, " to ", layers - 1,
                                      " have the last level's positions; allowed are those and 0"));
  }
  if (config.depths_size() > 1 && delivery.has_add_to_input() && !delivery.add_to_input() &&
      delivery.layers() == PositionDelivery::NONE) {
    errors.Add("", "has positions in each level, but the pooling delivers them neither to the input nor to the layers");
  }
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const Nest& config, const BackboneContext& context) {
  FieldErrors errors;
  CheckPrefixTokens(errors, context.contract, PrefixTokens::kNone);
  const int levels = config.embed_dims_size();
  const bool has_levels = CheckCount(errors, "embed_dims", levels, kMostLevels);
  const int64_t patch = config.patch_size();
  if (CheckCount(errors, "patch_size", patch, kMostWidth) && has_levels) {
    CheckTiles(
        errors, "patch_size",
        absl::StrCat("patches of ", patch, " in 2^", levels - 1, " blocks down and across (", levels, " levels)"),
        patch << (levels - 1), context.image_size);
  }
  const auto has_all = [&](std::string_view field, int size) {
    if (size == levels) return true;
    errors.Add(field, absl::StrCat("has ", size, " values, but embed_dims has ", levels, ": one a level"));
    return false;
  };
  const bool has_depths = has_all("depths", config.depths_size());
  const bool has_heads = has_all("num_heads", config.num_heads_size());
  bool depths_fit = has_depths;
  for (int level = 0; has_levels && level < levels; ++level) {
    const auto path = [&](std::string_view field) { return absl::StrCat(std::string(field), "[", level, "]"); };
    const int64_t width = config.embed_dims(level);
    CheckCount(errors, path("embed_dims"), width, kMostWidth);
    if (has_heads) CheckHeads(errors, path("num_heads"), config.num_heads(level), width);
    if (has_depths) depths_fit &= CheckCount(errors, path("depths"), config.depths(level), kMostLayers);
  }
  if (depths_fit) CheckDelivery(errors, config, context.contract.delivery);
  if (has_levels) {
    CheckMlpRatio(errors, "mlp_ratio", config.mlp_ratio(),
                  *std::max_element(config.embed_dims().begin(), config.embed_dims().end()));
  }
  CheckLayerFields(errors, config);
  return errors.ToStatus();
}

// timm draws NesT's convolutions like its linear layers.
void DrawLikeLinear(const Module& convolution) {
  for (const NamedParameter& parameter : convolution.Parameters()) {
    if (parameter.tensor.dim() > 1) {
      init::TruncNormal(parameter.tensor, kStd);
    } else {
      init::Zeros(parameter.tensor);
    }
  }
}

}  // namespace

NestPool::NestPool(int64_t in, int64_t out, double norm_epsilon, Nest::PoolPadding padding)
    : conv_({.in = in, .out = out, .kernel = 3, .padding = 1}), norm_(out, norm_epsilon), padding_(padding) {
  DrawLikeLinear(conv_);
  RegisterModule("conv", &conv_);
  RegisterModule("norm", &norm_);
}

at::Tensor NestPool::Forward(const at::Tensor& map) const {
  // Channels come last throughout; the permutations only tell the operators so.
  const at::Tensor normed = norm_.Forward(conv_.Forward(map.permute({0, 3, 1, 2})).permute({0, 2, 3, 1}));
  // For even sides, rounding up is the padding of one row and column at the end.
  const bool same = padding_ == Nest::SAME;
  const int64_t padding = same ? 0 : 1;
  return at::max_pool2d(normed.permute({0, 3, 1, 2}), /*kernel=*/{3, 3}, /*stride=*/{2, 2}, {padding, padding},
                        /*dilation=*/{1, 1}, /*ceil_mode=*/same)
      .permute({0, 2, 3, 1});
}

at::Tensor NestBlocks::Split(const at::Tensor& map) const {
  const int64_t batch = map.size(0), width = map.size(3);
  return map.reshape({batch, blocks, block.height, blocks, block.width, width})
      .transpose(2, 3)
      .reshape({batch, blocks * blocks, block.area(), width});
}

at::Tensor NestBlocks::Join(const at::Tensor& tokens) const {
  const int64_t batch = tokens.size(0), width = tokens.size(3);
  return tokens.reshape({batch, blocks, blocks, block.height, block.width, width})
      .transpose(2, 3)
      .reshape({batch, map().height, map().width, width});
}

absl::StatusOr<std::unique_ptr<Backbone>> NestBackbone::Create(const Nest& given, const BackboneContext& context) {
  const Nest config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new NestBackbone(config, context));
}

NestBackbone::NestBackbone(const Nest& config, const BackboneContext& context)
    : config_(config),
      patch_embed_(context.channels, config.patch_size(), config.embed_dims(0)),
      levels_(config.embed_dims_size()),
      norm_(*config.embed_dims().rbegin(), config.norm_epsilon()),
      // The first layers of the other levels always take part.
      delivery_(WithFirstLayerByDefault(context.contract.delivery), Widths(config), *config.embed_dims().rbegin(),
                config.norm_epsilon()) {
  DrawLikeLinear(patch_embed_);
  RegisterModule("patch_embed", &patch_embed_);
  const int64_t first_blocks = int64_t{1} << (levels_.size() - 1);
  const Size2d block = context.image_size / (config.patch_size() * first_blocks);
  int64_t layer = 0;
  for (int l = 0; l < config.embed_dims_size(); ++l) {
    Level& level = levels_[l];
    const std::string name = absl::StrCat("levels.", l, ".");
    const int64_t width = config.embed_dims(l);
    level.blocks = {.blocks = first_blocks >> l, .block = block};
    if (l > 0) {
      level.pool =
          std::make_unique<NestPool>(config.embed_dims(l - 1), width, config.norm_epsilon(), config.pool_padding());
      RegisterModule(name + "pool", level.pool.get());
    }
    const int64_t blocks = level.blocks.blocks * level.blocks.blocks;
    level.position = RegisterParameter(
        name + "pos_embed", init::TruncNormal(NewParameter({1, blocks, block.area(), width}), kStd), {.decay = false});
    TransformerBlockOptions options = BlockOptions(config, width, config.num_heads(l));
    options.attention.interleaved_heads = true;
    for (int i = 0; i < config.depths(l); ++i) {
      options.drop_path = DropPathRate(config.drop_path_rate(), layer++, Sum(config.depths()));
      level.encoder.push_back(std::make_unique<TransformerBlock>(options));
      RegisterModule(absl::StrCat(name, "transformer_encoder.", i), level.encoder.back().get());
    }
  }
  RegisterModule("norm", &norm_);
  RegisterModule("", &delivery_);
}

TokenMap NestBackbone::Forward(const at::Tensor& images) {
  const Size2d first = levels_.front().blocks.map();
  at::Tensor x = patch_embed_.Forward(images);
  CHECK_EQ(x.size(1), first.area()) << "images are not of the size that the backbone was built for";
  x = x.unflatten(1, {first.height, first.width});

  DeliveredPosition delivered = delivery_.Deliver(levels_.front().position);
  int64_t layer = 0;
  for (const Level& level : levels_) {
    if (level.pool != nullptr) {
      x = level.pool->Forward(x);
      delivered.Map([&](const at::Tensor&) { return level.position; });
    }
    x = delivered.AddAtInput(level.blocks.Split(x));
    for (const auto& block : level.encoder) x = block->Forward(x, delivered.AtLayer(layer++));
    x = level.blocks.Join(x);
  }

  // The last level is a single block, in raster order.
  x = delivered.AddAtLastNorm(levels_.back().blocks.Split(norm_.Forward(x)));  // [B,1,N,D]
  return {.tokens = x.flatten(1, 2), .grid = grid(), .position = levels_.back().position.flatten(1, 2)};
}

std::map<std::string, int64_t> NestBackbone::LayerMembers() const {
  std::map<std::string, int64_t> members;
  int64_t layer = 0;
  for (size_t l = 0; l < levels_.size(); ++l) {
    members[absl::StrCat("levels.", l, ".pos_embed")] = layer;
    layer += levels_[l].encoder.size();
  }
  return members;
}

at::Tensor NestBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  for (size_t l = 0; l < levels_.size(); ++l) {
    const NestBlocks& blocks = levels_[l].blocks;
    const at::Tensor& position = levels_[l].position;
    if (name != absl::StrCat("levels.", l, ".pos_embed")) continue;
    const int64_t side = loaded.dim() == 4 ? std::llround(std::sqrt(static_cast<double>(loaded.size(2)))) : 0;
    const bool fits = side > 0 && side * side == loaded.size(2) && loaded.size(0) == 1 &&
                      loaded.size(1) == position.size(1) && loaded.size(3) == position.size(3);
    if (!fits) return at::Tensor();
    const NestBlocks from = {.blocks = blocks.blocks, .block = {side, side}};
    const Size2d to = blocks.map();
    const at::Tensor table = ResizePositionTable(from.Join(loaded).flatten(1, 2), /*prefix_tokens=*/0, from.map(), to);
    return blocks.Split(table.unflatten(1, {to.height, to.width}));
  }
  return at::Tensor();
}

absl::StatusOr<TimmModel> NestBackbone::Timm() const {
  const auto lacks = [](const std::string& what) {
    return absl::UnimplementedError(absl::StrCat("timm has no NesT with ", what));
  };
  const auto is = [&](std::vector<int32_t> widths, std::vector<int32_t> depths, std::vector<int32_t> heads) {
    const auto equal = [](const Values& a, const std::vector<int32_t>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end());
    };
    return equal(config_.embed_dims(), widths) && equal(config_.depths(), depths) && equal(config_.num_heads(), heads);
  };
  TimmModel model;
  if (is({96, 192, 384}, {2, 2, 8}, {3, 6, 12})) {
    model.architecture = "nest_tiny";
  } else if (is({96, 192, 384}, {2, 2, 20}, {3, 6, 12})) {
    model.architecture = "nest_small";
  } else if (is({128, 256, 512}, {2, 2, 20}, {4, 8, 16})) {
    model.architecture = "nest_base";
  } else {
    return lacks("these embed_dims, depths and num_heads; it has nest_tiny, nest_small and nest_base");
  }
  if (grid().height != grid().width) return lacks("images that are not square");
  if (config_.norm_epsilon() != 1e-6) return lacks(absl::StrCat("a norm_epsilon of ", config_.norm_epsilon()));
  if (config_.pool_padding() == Nest::SAME) model.architecture += "_jx";
  model.arguments = {{"patch_size", int64_t{config_.patch_size()}},
                     {"mlp_ratio", config_.mlp_ratio()},
                     {"qkv_bias", config_.qkv_bias()}};
  return model;
}

namespace {

const Registration<Backbone, Nest> kRegistration(
    "NesT: transformers within blocks, in levels of fewer and fewer blocks",
    "embed_dims: [16, 32] depths: [1, 2] num_heads: [1, 2] mlp_ratio: 2", &NestBackbone::Create);

}  // namespace
}  // namespace graticule
