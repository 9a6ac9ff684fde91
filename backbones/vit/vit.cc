#include "backbones/vit/vit.h"

#include <algorithm>

#include "ATen/ops/cat.h"
#include "ATen/ops/take_along_dim.h"
#include "absl/strings/str_cat.h"
#include "backbones/checks.h"
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
  if (CheckPositive(errors, "patch_size", config.patch_size())) {
    CheckTiles(errors, "patch_size", absl::StrCat("patches of ", config.patch_size()), config.patch_size(),
               context.image_size);
  }
  const bool has_width = CheckPositive(errors, "embed_dim", config.embed_dim());
  CheckHeads(errors, "num_heads", config.num_heads(), config.embed_dim());
  const int64_t multiple = WidthMultiple(config.position());
  if (has_width && config.embed_dim() % multiple != 0) {
    errors.Add("position",
               absl::StrCat(PositionEncoding::Kind_Name(config.position()),
                            " needs an embed_dim that is a multiple of ", multiple, ", found ", config.embed_dim()));
  }
  if (CheckPositive(errors, "depth", config.depth())) {
    errors.Add(
        config.position() == PositionEncoding::NONE ? "position" : "depth",
        CheckPositionDelivery(context.contract.delivery, config.depth(), config.position() != PositionEncoding::NONE));
  }
  CheckMlpRatio(errors, "mlp_ratio", config.mlp_ratio(), config.embed_dim());
  CheckPositive(errors, "norm_epsilon", config.norm_epsilon());
  CheckAtLeastZero(errors, "position_std", config.position_std());
  CheckAtLeastZero(errors, "class_token_std", config.class_token_std());
  CheckRate(errors, "drop_path_rate", config.drop_path_rate());
  CheckRate(errors, "position_dropout", config.position_dropout());
  CheckRate(errors, "projection_dropout", config.projection_dropout());
  CheckRate(errors, "attention_dropout", config.attention_dropout());
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
  if (context.contract.distillation_token) {
    distillation_token_ = RegisterParameter(
        "dist_token", init::Normal(NewParameter({1, 1, width_}), config.class_token_std()), {.decay = false});
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
  const at::Tensor x = patch_embed_.Forward(images);
  CHECK_EQ(x.size(1), grid_.area()) << "images are not of the size that the backbone was built for";
  return {.tokens = Encode(x, position_), .prefix_tokens = prefix_tokens(), .grid = grid_, .position = position_};
}

TokenMap VitBackbone::ForwardSelected(const at::Tensor& images, const PatchSelection& selection) {
  const at::Tensor rows = selection.kept.unsqueeze(-1);  // [B,V,1]
  const at::Tensor x = at::take_along_dim(patch_embed_.Forward(images), rows, 1);
  at::Tensor position;
  if (selection.position && position_.defined()) {
    const int64_t batch = x.size(0), prefix = prefix_tokens();
    const at::Tensor patches = position_.narrow(1, prefix, grid_.area());
    position =
        at::cat({position_.narrow(1, 0, prefix).expand({batch, -1, -1}), at::take_along_dim(patches, rows, 1)}, 1);
  }
  return {.tokens = Encode(x, position),
          .prefix_tokens = prefix_tokens(),
          .grid = grid_,
          .position = position,
          .kept = selection.kept};
}

at::Tensor VitBackbone::Encode(at::Tensor x, const at::Tensor& position) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& prefix : {class_token_, distillation_token_}) {
    if (prefix.defined()) parts.push_back(prefix.expand({x.size(0), -1, -1}));
  }
  if (!parts.empty()) {
    parts.push_back(x);
    x = at::cat(parts, 1);
  }
  if (position.defined() && delivery_.add_to_input()) x = x.add(position);
  x = position_dropout_.Forward(x);

  DeliveredPosition delivered = delivery_.Deliver(position);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) x = blocks_[layer]->Forward(x, delivered.AtLayer(layer));

  x = norm_.Forward(x);
  const at::Tensor last = delivered.AtLastNorm();
  return last.defined() ? x.add(last) : x;
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
