#include "backbones/ceit/ceit.h"

#include "ATen/ops/alias.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/max_pool2d.h"
#include "ATen/ops/stack.h"
#include "absl/strings/str_cat.h"
#include "backbones/block_options.h"
#include "backbones/checks.h"
#include "nn/activation_checkpointing.h"
#include "nn/position_encoding.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr int64_t kMostKernel = 63;
constexpr int64_t kStemStride = 4;  // of its convolution and its pooling together

Ceit WithDefaults(const Ceit& given) {
  Ceit config;
  config.set_patch_size(16);
  config.set_stem_width(64);
  config.set_embed_dim(192);
  config.set_depth(12);
  config.set_num_heads(3);
  config.set_mlp_ratio(4);
  config.set_qkv_bias(true);
  config.set_leff_kernel_size(3);
  config.set_norm_epsilon(1e-6);
  config.set_average_lca(Ceit::MEAN_TOKEN);
  config.MergeFrom(given);
  return config;
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const Ceit& config, const BackboneContext& context) {
  FieldErrors errors;
  CheckPrefixTokens(errors, context.contract, PrefixTokens::kClassToken);
  const int64_t patch = config.patch_size();
  if (CheckCount(errors, "patch_size", patch, kMostWidth)) {
    if (patch % kStemStride == 0) {
      CheckTiles(errors, "patch_size", absl::StrCat("patches of ", patch), patch, context.image_size);
    } else {
      errors.Add("patch_size", absl::StrCat("must be a multiple of ", kStemStride, ", found ", patch));
    }
  }
  CheckCount(errors, "stem_width", config.stem_width(), kMostWidth);
  CheckPlainTransformer(errors, config, context.contract, /*has_position=*/true);
  if (CheckCount(errors, "leff_kernel_size", config.leff_kernel_size(), kMostKernel) &&
      config.leff_kernel_size() % 2 == 0) {
    errors.Add("leff_kernel_size", absl::StrCat("must be odd, found ", config.leff_kernel_size()));
  }
  CheckLayerFields(errors, config);
  CheckRate(errors, "position_dropout", config.position_dropout());
  return errors.ToStatus();
}

}  // namespace

CeitFeedForward::CeitFeedForward(int64_t width, int64_t hidden, int64_t kernel)
    : conv1_({.in = width, .out = hidden}),
      conv2_({.in = hidden, .out = hidden, .kernel = kernel, .padding = kernel / 2, .groups = hidden}),
      conv3_({.in = hidden, .out = width}),
      bn1_(hidden),
      bn2_(hidden),
      bn3_(width) {
  RegisterModule("conv1", &conv1_);
  RegisterModule("conv2", &conv2_);
  RegisterModule("conv3", &conv3_);
  RegisterModule("bn1", &bn1_);
  RegisterModule("bn2", &bn2_);
  RegisterModule("bn3", &bn3_);
}

at::Tensor CeitFeedForward::Forward(const at::Tensor& x, Size2d grid) const {
  return MapLastTokens(x, grid.area(), [&](const at::Tensor& tokens) {
    // The tokens are the map in channels-last order as they are, so nothing is permuted in memory.
    at::Tensor map = tokens.unflatten(1, {grid.height, grid.width}).permute({0, 3, 1, 2});
    map = at::gelu(bn1_.Forward(conv1_.Forward(map)));
    map = at::gelu(bn2_.Forward(conv2_.Forward(map)));
    map = bn3_.Forward(conv3_.Forward(map));
    return map.flatten(2).transpose(1, 2);
  });
}

CeitBlock::CeitBlock(const TransformerBlockOptions& options, int64_t kernel)
    : norm1_(options.attention.width, options.norm_epsilon),
      attn_(options.attention),
      norm2_(options.attention.width, options.norm_epsilon),
      leff_(options.attention.width, options.mlp_hidden, kernel),
      drop_path_(options.drop_path) {
  RegisterModule("norm1", &norm1_);
  RegisterModule("attn", &attn_);
  RegisterModule("norm2", &norm2_);
  RegisterModule("leff", &leff_);
  RegisterModule("drop_path", &drop_path_);
}

at::Tensor CeitBlock::Forward(const at::Tensor& x, const at::Tensor& position, Size2d grid) const {
  const auto layer = [this, grid](const at::Tensor& x, const at::Tensor& position) {
    at::Tensor normed = norm1_.Forward(x);
    if (position.defined()) normed = normed.add(position);
    const at::Tensor attended = drop_path_.Add(x, attn_.Forward(normed));
    return drop_path_.Add(attended, leff_.Forward(norm2_.Forward(attended), grid));
  };
  return Checkpointed(layer, x, position);
}

LayerwiseAttention::LayerwiseAttention(const TransformerBlockOptions& options)
    : norm1_(options.attention.width, options.norm_epsilon),
      attn_(options.attention),
      norm2_(options.attention.width, options.norm_epsilon),
      feedforward_(options.attention.width, options.mlp_hidden, options.mlp_dropout) {
  RegisterModule("norm1", &norm1_);
  RegisterModule("attn", &attn_);
  RegisterModule("norm2", &norm2_);
  RegisterModule("feedforward", &feedforward_);
}

at::Tensor LayerwiseAttention::Forward(const at::Tensor& layers) const {
  const at::Tensor last = layers.select(-2, -1);
  const at::Tensor attended = last.add(attn_.Forward(norm1_.Forward(layers), /*queries=*/1).squeeze(-2));
  return attended.add(feedforward_.Forward(norm2_.Forward(attended)));
}

absl::StatusOr<std::unique_ptr<Backbone>> CeitBackbone::Create(const Ceit& given, const BackboneContext& context) {
  const Ceit config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new CeitBackbone(config, context));
}

CeitBackbone::CeitBackbone(const Ceit& config, const BackboneContext& context)
    : width_(config.embed_dim()),
      grid_(context.image_size / config.patch_size()),
      each_token_(!context.contract.class_token && config.average_lca() == Ceit::EACH_TOKEN),
      stem_conv_(
          {.in = context.channels, .out = config.stem_width(), .kernel = 7, .stride = 2, .padding = 3, .bias = false}),
      stem_norm_(config.stem_width()),
      patch_embed_(config.stem_width(), config.patch_size() / kStemStride, config.embed_dim()),
      position_dropout_(config.position_dropout()),
      norm_(config.embed_dim(), config.norm_epsilon()),
      // So the parameters of the published PVG and MPVG add up.
      delivery_(WithFirstLayerByDefault(context.contract.delivery), config.depth(), config.embed_dim(),
                config.norm_epsilon()) {
  constexpr double kStd = 0.02;  // of tokens and positions at the start
  if (context.contract.class_token) {
    class_token_ =
        RegisterParameter("cls_token", init::TruncNormal(NewParameter({1, 1, width_}), kStd), {.decay = false});
  }
  const int64_t tokens = prefix_tokens() + grid_.area();
  position_ =
      RegisterParameter("pos_embed", init::TruncNormal(NewParameter({1, tokens, width_}), kStd), {.decay = false});
  // It does decay in the official code.
  layer_position_ = RegisterParameter("pos_layer_embed", init::Zeros(NewParameter({1, config.depth(), width_})));
  RegisterModule("i2t.backbone.conv", &stem_conv_);
  RegisterModule("i2t.backbone.bn", &stem_norm_);
  RegisterModule("i2t", &patch_embed_);
  RegisterModule("pos_drop", &position_dropout_);
  TransformerBlockOptions options = BlockOptions(config, width_, config.num_heads());
  for (int layer = 0; layer < config.depth(); ++layer) {
    options.drop_path = DropPathRate(config.drop_path_rate(), layer, config.depth());
    blocks_.push_back(std::make_unique<CeitBlock>(options, config.leff_kernel_size()));
    RegisterModule(absl::StrCat("blocks.", layer), blocks_.back().get());
  }
  lca_ = std::make_unique<LayerwiseAttention>(options);
  RegisterModule("lca", lca_.get());
  RegisterModule("norm", &norm_);
  RegisterModule("", &delivery_);
}

at::Tensor CeitBackbone::Stem(const at::Tensor& images) const {
  const at::Tensor map = stem_norm_.Forward(stem_conv_.Forward(images));
  return patch_embed_.Forward(at::max_pool2d(map, /*kernel=*/{3, 3}, /*stride=*/{2, 2}, /*padding=*/{1, 1}));
}

at::Tensor CeitBackbone::Summary(const at::Tensor& x) const {
  if (class_token_.defined()) return x.select(1, 0);
  // An operator of its own even where it does nothing: so its gradient is added to x's after all of the next layer's,
  // and the sum is the same bit for bit whether that layer is checkpointed or not.
  return each_token_ ? at::alias(x) : x.mean(1);
}

TokenMap CeitBackbone::Forward(const at::Tensor& images) {
  at::Tensor x = Stem(images);
  CHECK_EQ(x.size(1), grid_.area()) << "images are not of the size that the backbone was built for";
  DeliveredPosition delivered = delivery_.Deliver(position_);
  x = position_dropout_.Forward(delivered.AddAtInput(PrependTokens({class_token_}, x)));

  std::vector<at::Tensor> summaries;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    x = blocks_[layer]->Forward(x, delivered.AtLayer(layer), grid_);
    summaries.push_back(Summary(x));
  }

  const at::Tensor layers = at::stack(summaries, -2).add(layer_position_);  // [B,L,D] or [B,N,L,D]
  const at::Tensor attended = lca_->Forward(layers);
  if (class_token_.defined()) {
    x = at::cat({attended.unsqueeze(1), x.narrow(1, 1, grid_.area())}, 1);
  } else if (each_token_) {
    x = attended;
  } else {
    // From here on LCA's result is the tokens' mean.
    x = x.add(attended.sub(summaries.back()).unsqueeze(1));
  }
  return {.tokens = delivered.AddAtLastNorm(norm_.Forward(x)),
          .prefix_tokens = prefix_tokens(),
          .grid = grid_,
          .position = position_};
}

at::Tensor CeitBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  return name == "pos_embed" ? AdaptPositionTable(loaded, prefix_tokens(), grid_, width_) : at::Tensor();
}

std::map<std::string, int64_t> CeitBackbone::LayerMembers() const {
  return {{"pos_layer_embed", static_cast<int64_t>(blocks_.size()) - 1}};  // as the attention over the layers
}

namespace {

const Registration<Backbone, Ceit> kRegistration(
    "CeiT: a vision transformer with convolutions, and attention over the layers' class tokens",
    "patch_size: 8 stem_width: 8 embed_dim: 16 depth: 2 num_heads: 2 mlp_ratio: 2", &CeitBackbone::Create);

}  // namespace
}  // namespace graticule
