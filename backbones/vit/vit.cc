#include "backbones/vit/vit.h"

#include <algorithm>

#include "ATen/ops/cat.h"
#include "absl/strings/str_cat.h"
#include "nn/position_encoding.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

Vit WithDefaults(const Vit& given) {
  Vit config;
  config.set_patch_size(16);
  config.set_embed_dim(192);
  config.set_depth(12);
  config.set_num_heads(3);
  config.set_mlp_ratio(4);
  config.set_qkv_bias(true);
  config.set_norm_epsilon(1e-6);
  config.set_position(PositionEncoding::LEARNED);
  config.set_position_std(0.02);
  config.set_class_token_std(1e-6);
  config.MergeFrom(given);
  return config;
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const Vit& config, const BackboneContext& context) {
  FieldErrors errors;
  const auto positive = [&](std::string_view field, double value) {
    if (!(value > 0)) errors.Add(field, absl::StrCat("must be positive, found ", value));
    return value > 0;
  };
  const auto at_least_zero = [&](std::string_view field, double value) {
    if (!(value >= 0)) errors.Add(field, absl::StrCat("must be 0 or more, found ", value));
  };
  const auto rate = [&](std::string_view field, double value) {
    if (!(value >= 0 && value < 1)) {
      errors.Add(field, absl::StrCat("must be a rate from 0 up to, but not including, 1, found ", value));
    }
  };

  const Size2d image = context.image_size;
  const int64_t patch = config.patch_size();
  if (positive("patch_size", patch) && (image.height % patch != 0 || image.width % patch != 0)) {
    const auto nearest = [&](int64_t size) {
      const int64_t below = size / patch * patch;
      return size % patch == 0 ? absl::StrCat(size)
             : below == 0      ? absl::StrCat(patch)
                               : absl::StrCat(below, " or ", below + patch);
    };
    errors.Add("patch_size", absl::StrCat("patches of ", patch, " don't tile images of ", image.height, "×",
                                          image.width, " (height×width); the nearest sizes that they tile are height ",
                                          nearest(image.height), " and width ", nearest(image.width)));
  }
  const bool has_width = positive("embed_dim", config.embed_dim());
  if (positive("num_heads", config.num_heads()) && has_width && config.embed_dim() % config.num_heads() != 0) {
    errors.Add("num_heads",
               absl::StrCat(config.num_heads(), " heads don't divide an embed_dim of ", config.embed_dim()));
  }
  const int64_t multiple = WidthMultiple(config.position());
  if (has_width && config.embed_dim() % multiple != 0) {
    errors.Add("position",
               absl::StrCat(PositionEncoding::Kind_Name(config.position()),
                            " needs an embed_dim that is a multiple of ", multiple, ", found ", config.embed_dim()));
  }
  if (positive("depth", config.depth())) {
    errors.Add(
        config.position() == PositionEncoding::NONE ? "position" : "depth",
        CheckPositionDelivery(context.contract.delivery, config.depth(), config.position() != PositionEncoding::NONE));
  }
  if (positive("mlp_ratio", config.mlp_ratio()) && has_width && config.mlp_ratio() * config.embed_dim() < 1) {
    errors.Add("mlp_ratio", absl::StrCat("leaves a hidden layer of no width, found ", config.mlp_ratio()));
  }
  positive("norm_epsilon", config.norm_epsilon());
  at_least_zero("position_std", config.position_std());
  at_least_zero("class_token_std", config.class_token_std());
  rate("drop_path_rate", config.drop_path_rate());
  rate("position_dropout", config.position_dropout());
  rate("projection_dropout", config.projection_dropout());
  rate("attention_dropout", config.attention_dropout());
  return errors.ToStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backbone>> VitBackbone::Create(const Vit& given, const BackboneContext& context) {
  const Vit config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new VitBackbone(config, context));
}

VitBackbone::VitBackbone(const Vit& config, const BackboneContext& context)
    : width_(config.embed_dim()),
      grid_{context.image_size.height / config.patch_size(), context.image_size.width / config.patch_size()},
      patch_embed_(context.channels, config.patch_size(), config.embed_dim()),
      position_dropout_(config.position_dropout()),
      norm_(config.embed_dim(), config.norm_epsilon()),
      delivery_(context.contract.delivery, std::vector<int64_t>(config.depth(), config.embed_dim()), config.embed_dim(),
                config.norm_epsilon()) {
  if (context.contract.class_token) {
    class_token_ = RegisterParameter("cls_token", init::Normal(NewParameter({1, 1, width_}), config.class_token_std()),
                                     {.decay = false});
  }
  if (config.position() != PositionEncoding::NONE) {
    position_ = RegisterParameter(
        "pos_embed", NewPositionTable(config.position(), grid_, prefix_tokens(), width_, config.position_std()),
        {.decay = false, .trainable = IsTrained(config.position())});
  }
  RegisterModule("patch_embed", &patch_embed_);
  RegisterModule("pos_drop", &position_dropout_);
  TransformerBlockOptions options;
  options.attention = {.width = width_,
                       .heads = config.num_heads(),
                       .qkv_bias = config.qkv_bias(),
                       .attention_dropout = config.attention_dropout(),
                       .projection_dropout = config.projection_dropout()};
  options.mlp_hidden = static_cast<int64_t>(width_ * config.mlp_ratio());
  options.mlp_dropout = config.projection_dropout();
  options.norm_epsilon = config.norm_epsilon();
  for (int layer = 0; layer < config.depth(); ++layer) {
    options.drop_path = config.drop_path_rate() * layer / std::max(config.depth() - 1, 1);
    blocks_.push_back(std::make_unique<TransformerBlock>(options));
    RegisterModule(absl::StrCat("blocks.", layer), blocks_.back().get());
  }
  RegisterModule("norm", &norm_);
  RegisterModule("", &delivery_);
}

TokenMap VitBackbone::Forward(const at::Tensor& images) {
  at::Tensor x = patch_embed_.Forward(images);
  CHECK_EQ(x.size(1), grid_.area()) << "images are not of the size that the backbone was built for";
  if (class_token_.defined()) x = at::cat({class_token_.expand({x.size(0), -1, -1}), x}, 1);
  if (position_.defined() && delivery_.add_to_input()) x = x.add(position_);
  x = position_dropout_.Forward(x);

  DeliveredPosition position = delivery_.Deliver(position_);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) x = blocks_[layer]->Forward(x, position.AtLayer(layer));

  x = norm_.Forward(x);
  if (const at::Tensor last = position.AtLastNorm(); last.defined()) x = x.add(last);
  return {.tokens = x, .prefix_tokens = prefix_tokens(), .grid = grid_, .position = position_};
}

at::Tensor VitBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  if (name != "pos_embed" || !position_.defined()) return at::Tensor();
  return AdaptPositionTable(loaded, prefix_tokens(), grid_, width_);
}

namespace {

const Registration<Backbone, Vit> kRegistration("Vision transformer: ViT and DeiT",
                                                "patch_size: 8 embed_dim: 32 depth: 2 num_heads: 2",
                                                &VitBackbone::Create);

}  // namespace
}  // namespace graticule
