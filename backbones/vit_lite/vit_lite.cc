#include "backbones/vit_lite/vit_lite.h"

#include <algorithm>
#include <cmath>

#include "ATen/ops/max_pool2d.h"
#include "absl/strings/str_cat.h"
#include "backbones/checks.h"
#include "nn/activation_checkpointing.h"
#include "nn/position_encoding.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr char kPositionName[] = "classifier.positional_emb";
constexpr int64_t kMostKernel = 1024;

VitLite WithDefaults(const VitLite& given) {
  VitLite config;
  config.set_embed_dim(256);
  config.set_depth(7);
  config.set_num_heads(4);
  config.set_mlp_ratio(2);
  config.set_qkv_bias(false);
  config.set_norm_epsilon(1e-5);
  config.set_position(PositionEncoding::LEARNED);
  config.set_position_std(0.2);
  config.set_drop_path_rate(0.1);
  config.set_attention_dropout(0.1);
  config.MergeFrom(given);
  if (config.has_convolutions()) {
    const VitLite::Convolutions given_convolutions = config.convolutions();
    VitLite::Convolutions& convolutions = *config.mutable_convolutions();
    const int kernel = given_convolutions.has_kernel_size() ? given_convolutions.kernel_size() : 3;
    convolutions.set_layers(1);
    convolutions.set_channels(64);
    convolutions.set_kernel_size(kernel);
    convolutions.set_stride(std::max(kernel / 2 - 1, 1));
    convolutions.set_padding(std::max(kernel / 2, 1));
    convolutions.set_pool_kernel_size(3);
    convolutions.set_pool_stride(2);
    convolutions.set_pool_padding(1);
    convolutions.MergeFrom(given_convolutions);
  } else if (!config.has_patch_size()) {
    config.set_patch_size(4);
  }
  return config;
}

// Length of an axis after a kernel went over it.
int64_t Slide(int64_t length, int64_t kernel, int64_t stride, int64_t padding) {
  return (length + 2 * padding - kernel) / stride + 1;
}

// h×w of the tokens, for an image that the tokenizer can take.
Size2d Grid(const VitLite& config, Size2d image) {
  if (config.has_patch_size()) return image / config.patch_size();
  const VitLite::Convolutions& c = config.convolutions();
  for (int layer = 0; layer < c.layers(); ++layer) {
    for (int64_t* side : {&image.height, &image.width}) {
      *side = Slide(*side, c.kernel_size(), c.stride(), c.padding());
      *side = Slide(*side, c.pool_kernel_size(), c.pool_stride(), c.pool_padding());
    }
  }
  return image;
}

// The side of the smallest image that the convolutions make a token of.
int64_t SmallestSide(const VitLite::Convolutions& c) {
  // The shortest axis that a kernel makes one of `length` from; bounded, as is every image.
  const auto before = [](int64_t length, int64_t kernel, int64_t stride, int64_t padding) {
    return std::clamp<int64_t>((length - 1) * stride + kernel - 2 * padding, 1, int64_t{1} << 40);
  };
  int64_t side = 1;
  for (int layer = 0; layer < c.layers(); ++layer) {
    side = before(side, c.pool_kernel_size(), c.pool_stride(), c.pool_padding());
    side = before(side, c.kernel_size(), c.stride(), c.padding());
  }
  return side;
}

void CheckConvolutions(FieldErrors& errors, const VitLite::Convolutions& c, Size2d image) {
  const auto check_padding = [&](const char* field, int64_t padding, int64_t most, const char* why) {
    if (padding >= 0 && padding <= most) return true;
    errors.Add(field, absl::StrCat("must be from 0 to ", most, ", ", why, ", found ", padding));
    return false;
  };
  bool fits = CheckCount(errors, "convolutions.layers", c.layers(), kMostLayers);
  fits &= CheckCount(errors, "convolutions.channels", c.channels(), kMostWidth);
  fits &= CheckCount(errors, "convolutions.stride", c.stride(), kMostKernel);
  fits &= CheckCount(errors, "convolutions.pool_stride", c.pool_stride(), kMostKernel);
  fits &= CheckCount(errors, "convolutions.kernel_size", c.kernel_size(), kMostKernel) &&
          check_padding("convolutions.padding", c.padding(), c.kernel_size(), "kernel_size");
  fits &= CheckCount(errors, "convolutions.pool_kernel_size", c.pool_kernel_size(), kMostKernel) &&
          check_padding("convolutions.pool_padding", c.pool_padding(), c.pool_kernel_size() / 2,
                        "half of pool_kernel_size");
  if (!fits) return;
  const int64_t smallest = SmallestSide(c);
  if (image.height < smallest || image.width < smallest) {
    errors.Add("convolutions", absl::StrCat("leave nothing of images of ", image.height, "×", image.width,
                                            " (height×width); allowed are sides from ", smallest, " pixels"));
  }
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const VitLite& config, const BackboneContext& context) {
  FieldErrors errors;
  CheckPrefixTokens(errors, context.contract, PrefixTokens::kClassToken);
  if (config.has_convolutions()) {
    CheckConvolutions(errors, config.convolutions(), context.image_size);
  } else {
    CheckPatchSize(errors, config.patch_size(), context.image_size);
  }
  CheckPlainTransformer(errors, config, context.contract, config.position() != PositionEncoding::NONE);
  CheckPositionWidth(errors, config.position(), config.embed_dim());
  CheckPositive(errors, "norm_epsilon", config.norm_epsilon());
  CheckAtLeastZero(errors, "position_std", config.position_std());
  CheckRate(errors, "drop_path_rate", config.drop_path_rate());
  CheckRate(errors, "attention_dropout", config.attention_dropout());
  CheckRate(errors, "dropout", config.dropout());
  return errors.ToStatus();
}

}  // namespace

VitLiteTokenizer::VitLiteTokenizer(const VitLite& config, int64_t image_channels)
    : pools_(config.has_convolutions()), pooling_(config.convolutions()) {
  const VitLite::Convolutions& c = config.convolutions();
  Conv2dOptions options = {.in = image_channels, .out = config.embed_dim(), .bias = !pools_};
  options.kernel = pools_ ? c.kernel_size() : config.patch_size();
  options.stride = pools_ ? c.stride() : config.patch_size();
  options.padding = pools_ ? c.padding() : 0;
  const int layers = pools_ ? c.layers() : 1;
  for (int layer = 0; layer < layers; ++layer) {
    options.out = layer + 1 < layers ? c.channels() : config.embed_dim();
    convolutions_.push_back(
        RegisterModule(absl::StrCat("conv_layers.", layer, ".0"), std::make_unique<Conv2d>(options)));
    const double fan_in = options.in * options.kernel * options.kernel;
    init::Normal(convolutions_.back()->Parameters()[0].tensor, std::sqrt(2 / fan_in));
    options.in = options.out;
  }
}

at::Tensor VitLiteTokenizer::Forward(const at::Tensor& images) const {
  at::Tensor x = images;
  for (const Conv2d* convolution : convolutions_) {
    x = convolution->Forward(x);
    if (pools_) {
      x = at::max_pool2d(x.relu(), pooling_.pool_kernel_size(), pooling_.pool_stride(), pooling_.pool_padding());
    }
  }
  return x.flatten(2).transpose(1, 2).contiguous();
}

VitLiteLayer::VitLiteLayer(const VitLite& config, double drop_path)
    : pre_norm_(config.embed_dim(), config.norm_epsilon()),
      self_attn_({.width = config.embed_dim(),
                  .heads = config.num_heads(),
                  .qkv_bias = config.qkv_bias(),
                  .attention_dropout = config.attention_dropout(),
                  .projection_dropout = config.dropout()}),
      norm1_(config.embed_dim(), config.norm_epsilon()),
      mlp_(config.embed_dim(), static_cast<int64_t>(config.embed_dim() * config.mlp_ratio()), config.dropout(),
           {.first = "linear1", .second = "linear2"}),
      drop_path_(drop_path) {
  RegisterModule("pre_norm", &pre_norm_);
  RegisterModule("self_attn", &self_attn_);
  RegisterModule("norm1", &norm1_);
  RegisterModule("", &mlp_);
  RegisterModule("drop_path", &drop_path_);
}

at::Tensor VitLiteLayer::Forward(const at::Tensor& x, const at::Tensor& position) const {
  const auto layer = [this](const at::Tensor& x, const at::Tensor& position) {
    at::Tensor normed = pre_norm_.Forward(x);
    if (position.defined()) normed = normed.add(position);
    const at::Tensor attended = norm1_.Forward(drop_path_.Add(x, self_attn_.Forward(normed)));
    return drop_path_.Add(attended, mlp_.Forward(attended));
  };
  return Checkpointed(layer, x, position);
}

absl::StatusOr<std::unique_ptr<Backbone>> VitLiteBackbone::Create(const VitLite& given,
                                                                  const BackboneContext& context) {
  const VitLite config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new VitLiteBackbone(config, context));
}

VitLiteBackbone::VitLiteBackbone(const VitLite& config, const BackboneContext& context)
    : width_(config.embed_dim()),
      grid_(Grid(config, context.image_size)),
      tokenizer_(config, context.channels),
      dropout_(config.dropout()),
      norm_(config.embed_dim(), config.norm_epsilon()),
      delivery_(context.contract.delivery, config.depth(), config.embed_dim(), config.norm_epsilon()) {
  RegisterModule("tokenizer", &tokenizer_);
  if (context.contract.class_token) {
    class_token_ =
        RegisterParameter("classifier.class_emb", init::Zeros(NewParameter({1, 1, width_})), {.decay = false});
  }
  if (config.position() != PositionEncoding::NONE) {
    position_ = RegisterParameter(
        kPositionName, NewPositionTable(config.position(), grid_, prefix_tokens(), width_, config.position_std()),
        {.decay = false, .trainable = IsTrained(config.position())});
  }
  RegisterModule("classifier.dropout", &dropout_);
  for (int layer = 0; layer < config.depth(); ++layer) {
    const double drop_path = DropPathRate(config.drop_path_rate(), layer, config.depth());
    layers_.push_back(
        RegisterModule(absl::StrCat("classifier.blocks.", layer), std::make_unique<VitLiteLayer>(config, drop_path)));
  }
  RegisterModule("classifier.norm", &norm_);
  RegisterModule("", &delivery_);
}

TokenMap VitLiteBackbone::Forward(const at::Tensor& images) {
  at::Tensor x = tokenizer_.Forward(images);
  CHECK_EQ(x.size(1), grid_.area()) << "images are not of the size that the backbone was built for";
  DeliveredPosition delivered = delivery_.Deliver(position_);
  x = dropout_.Forward(delivered.AddAtInput(PrependTokens({class_token_}, x)));
  for (size_t layer = 0; layer < layers_.size(); ++layer) x = layers_[layer]->Forward(x, delivered.AtLayer(layer));
  return {.tokens = delivered.AddAtLastNorm(norm_.Forward(x)),
          .prefix_tokens = prefix_tokens(),
          .grid = grid_,
          .position = position_};
}

at::Tensor VitLiteBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  if (name != kPositionName || !position_.defined()) return at::Tensor();
  return AdaptPositionTable(loaded, prefix_tokens(), grid_, width_);
}

std::vector<WeightLayout> VitLiteBackbone::Layouts() const {
  return {{.name = "SHI-Labs/Compact-Transformers", .name_there = [](const std::string& ours) {
             constexpr std::string_view kPooling = "pooling.";
             return ours.starts_with(kPooling) ? "classifier." + ours.substr(kPooling.size())
                    : ours.starts_with("tokenizer.") || ours.starts_with("classifier.") ? ours
                                                                                        : "";
           }}};
}

namespace {

const Registration<Backbone, VitLite> kRegistration("Compact Transformers: ViT-Lite, CVT and CCT",
                                                    "patch_size: 8 embed_dim: 32 depth: 2 num_heads: 2",
                                                    &VitLiteBackbone::Create);

}  // namespace
}  // namespace graticule
