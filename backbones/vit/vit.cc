#include "backbones/vit/vit.h"

#include <set>

#include "ATen/ops/take_along_dim.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "backbones/block_options.h"
#include "backbones/checks.h"
#include "nn/irpe.h"
#include "nn/position_encoding.h"
#include "nn/relative_position_bias.h"
#include "nn/rotary.h"
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
  if (given.attention_position().has_irpe()) {
    AttentionPosition::Irpe& irpe = *config.mutable_attention_position()->mutable_irpe();
    irpe.set_alpha(1.9);
    irpe.set_beta(3.8);
    irpe.set_gamma(15.2);
  }
  if (given.attention_position().has_rope()) {
    AttentionPosition::Rope& rope = *config.mutable_attention_position()->mutable_rope();
    rope.set_temperature(given.attention_position().rope().kind() == AttentionPosition::Rope::MIXED ? 10 : 100);
  }
  config.MergeFrom(given);
  return config;
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const Vit& config, const BackboneContext& context) {
  FieldErrors errors;
  CheckPatchSize(errors, config.patch_size(), context.image_size);
  const bool has_heads =
      CheckPlainTransformer(errors, config, context.contract, config.position() != PositionEncoding::NONE);
  CheckPositionWidth(errors, config.position(), config.embed_dim());
  const AttentionPosition& inside = config.attention_position();
  if (inside.has_irpe()) {
    const AttentionPosition::Irpe& irpe = inside.irpe();
    if (!(irpe.alpha() >= 1 && irpe.alpha() < irpe.beta() && irpe.beta() < irpe.gamma() && irpe.beta() < 100)) {
      errors.Add("attention_position.irpe", absl::StrCat("needs 1 ≤ alpha < beta < gamma and beta < 100, found ",
                                                         irpe.alpha(), ", ", irpe.beta(), " and ", irpe.gamma()));
    }
  }
  if ((inside.has_relative_bias() || inside.has_irpe()) && config.patch_size() > 0) {
    const Size2d grid = context.image_size / config.patch_size();
    if (grid.area() > kMostRelatedTokens) {
      errors.Add("attention_position", absl::StrCat("relates each pair of tokens, of which there may be ",
                                                    kMostRelatedTokens, ", found ", grid.height, "×", grid.width));
    }
  }
  if (inside.has_rope()) {
    CheckPositive(errors, "attention_position.rope.temperature", inside.rope().temperature());
    if (has_heads && config.embed_dim() / config.num_heads() % 4 != 0) {
      errors.Add("attention_position.rope",
                 absl::StrCat("needs heads whose width is a multiple of 4, found ", config.embed_dim(), " / ",
                              config.num_heads(), " = ", config.embed_dim() / config.num_heads()));
    }
  }
  std::set<int> layers;
  for (int i = 0; i < config.conditional_position_after_size(); ++i) {
    const int layer = config.conditional_position_after(i);
    const std::string path = absl::StrCat("conditional_position_after[", i, "]");
    if (layer < 0 || layer >= config.depth()) {
      errors.Add(path, absl::StrCat("must be a layer from 0 to ", config.depth() - 1, ", found ", layer));
    } else if (!layers.insert(layer).second) {
      errors.Add(path, absl::StrCat("layer ", layer, " is named twice"));
    }
  }
  CheckAtLeastZero(errors, "layer_scale", config.layer_scale());
  CheckLayerFields(errors, config);
  CheckAtLeastZero(errors, "position_std", config.position_std());
  CheckAtLeastZero(errors, "class_token_std", config.class_token_std());
  CheckRate(errors, "position_dropout", config.position_dropout());
  return errors.ToStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backbone>> VitBackbone::Create(const Vit& given, const BackboneContext& context) {
  const Vit config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new VitBackbone(config, context));
}

VitBackbone::VitBackbone(const Vit& config, const BackboneContext& context)
    : config_(config),
      width_(config.embed_dim()),
      heads_(config.num_heads()),
      grid_(context.image_size / config.patch_size()),
      patch_embed_(context.channels, config.patch_size(), config.embed_dim()),
      position_dropout_(config.position_dropout()),
      norm_(config.embed_dim(), config.norm_epsilon()),
      delivery_(context.contract.delivery, config.depth(), config.embed_dim(), config.norm_epsilon()) {
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
  TransformerBlockOptions options = BlockOptions(config, width_, heads_);
  options.layer_scale = config.layer_scale();
  if (config.attention_position().rope().kind() == AttentionPosition::Rope::MIXED) {
    frequencies_ = RegisterParameter(
        "rope.freqs",
        NewRotaryFrequencies(config.depth(), heads_, width_ / heads_, config.attention_position().rope().temperature()),
        {.decay = false});
  }
  for (int layer = 0; layer < config.depth(); ++layer) {
    options.drop_path = DropPathRate(config.drop_path_rate(), layer, config.depth());
    blocks_.push_back(std::make_unique<TransformerBlock>(options, NewEncoding(layer)));
    RegisterModule(absl::StrCat("blocks.", layer), blocks_.back().get());
  }
  conditional_.resize(config.depth());
  for (int i = 0; i < config.conditional_position_after_size(); ++i) {
    auto& conditional = conditional_[config.conditional_position_after(i)];
    conditional = std::make_unique<ConditionalPosition>("proj.0", width_);
    RegisterModule(absl::StrCat("pos_block.", i), conditional.get());
  }
  RegisterModule("norm", &norm_);
  RegisterModule("", &delivery_);
}

std::unique_ptr<AttentionEncoding> VitBackbone::NewEncoding(int64_t layer) const {
  const AttentionPosition& position = config_.attention_position();
  const int64_t head_width = width_ / heads_;
  switch (position.kind_case()) {
    case AttentionPosition::kRelativeBias:
      return std::make_unique<RelativePositionBias>(grid_, heads_, prefix_tokens());
    case AttentionPosition::kIrpe:
      return std::make_unique<IrpeEncoding>(
          grid_, prefix_tokens(), head_width,
          IrpeOptions{position.irpe().alpha(), position.irpe().beta(), position.irpe().gamma()});
    case AttentionPosition::kRope:
      if (frequencies_.defined()) {
        return std::make_unique<RotaryEncoding>(grid_, prefix_tokens(), frequencies_, layer);
      }
      return std::make_unique<RotaryEncoding>(grid_, prefix_tokens(), head_width, position.rope().temperature());
    case AttentionPosition::KIND_NOT_SET:
      break;
  }
  return nullptr;
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
    const int64_t prefix = prefix_tokens();
    const at::Tensor patches = position_.narrow(1, prefix, grid_.area());
    position = PrependTokens({position_.narrow(1, 0, prefix)}, at::take_along_dim(patches, rows, 1));
  }
  return {.tokens = Encode(x, position),
          .prefix_tokens = prefix_tokens(),
          .grid = grid_,
          .position = position,
          .kept = selection.kept};
}

at::Tensor VitBackbone::Encode(at::Tensor x, const at::Tensor& position) {
  DeliveredPosition delivered = delivery_.Deliver(position);
  x = delivered.AddAtInput(PrependTokens({class_token_, distillation_token_}, x));
  x = position_dropout_.Forward(x);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    x = blocks_[layer]->Forward(x, delivered.AtLayer(layer));
    if (conditional_[layer] == nullptr) continue;
    x = MapLastTokens(x, grid_.area(), [&](const at::Tensor& t) { return conditional_[layer]->Forward(t, grid_); });
  }
  return delivered.AddAtLastNorm(norm_.Forward(x));
}

std::map<std::string, int64_t> VitBackbone::LayerMembers() const {
  std::map<std::string, int64_t> members;
  for (int i = 0; i < config_.conditional_position_after_size(); ++i) {
    members[absl::StrCat("pos_block.", i)] = config_.conditional_position_after(i);
  }
  return members;
}

at::Tensor VitBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  if (name == "pos_embed" && position_.defined()) {
    return AdaptPositionTable(loaded.dim() == 2 ? loaded.unsqueeze(0) : loaded, prefix_tokens(), grid_, width_);
  }
  if (name.ends_with("relative_position_bias_table")) {
    return AdaptRelativePositionBias(loaded, grid_, heads_, prefix_tokens());
  }
  if (name == "rope.freqs" && loaded.sizes() == frequencies_.flatten(2).sizes()) return loaded.view_as(frequencies_);
  return at::Tensor();
}

std::vector<WeightLayout> VitBackbone::Layouts() const {
  const auto lape = [](const std::string& ours) {
    const std::vector<std::string> parts = absl::StrSplit(ours, '.');
    return parts[0] == "pos_norms" ? absl::StrCat("blocks.", parts[1], ".pe_norm.", parts[2]) : ours;
  };
  const auto rope = [](const std::string& ours) { return ours == "rope.freqs" ? "freqs" : ours; };
  // Its fixed one-dimensional tables are [T,D].
  const auto lape_tensor = [sinusoid = config_.position() == PositionEncoding::SINUSOID_1D](const std::string& ours,
                                                                                            const at::Tensor& tensor) {
    return sinusoid && ours == "pos_embed" ? tensor.squeeze(0) : tensor;
  };
  // [2,depth,H·d/2].
  const auto rope_tensor = [](const std::string& ours, const at::Tensor& tensor) {
    return ours == "rope.freqs" ? tensor.flatten(2) : tensor;
  };
  const auto layer_scale = [](const std::string& ours) {
    return absl::StrReplaceAll(ours, {{"gamma_1", "ls1.gamma"}, {"gamma_2", "ls2.gamma"}});
  };
  const auto norm_of_mean = [](const std::string& ours) { return ours.starts_with("norm.") ? "fc_" + ours : ours; };
  return {{.name = "Ingrid725/LaPE", .name_there = lape, .tensor_there = lape_tensor},
          {.name = "naver-ai/rope-vit",
           .name_there = rope,
           .tensor_there = rope_tensor,
           .is_derived = [](const std::string& theirs) { return theirs.starts_with("freqs_t_"); }},
          {.name = "timm's LayerScale", .name_there = layer_scale},
          {.name = "timm's global_pool='avg'",
           .name_there = norm_of_mean,
           .refusal = "which norms the mean of the tokens (fc_norm); this model norms the tokens, then takes the mean, "
                      "and no weights make the two one function"}};
}

absl::StatusOr<TimmModel> VitBackbone::Timm() const {
  const auto lacks = [](const std::string& what) {
    return absl::UnimplementedError(absl::StrCat("timm has no vision transformer with ", what));
  };
  const AttentionPosition& inside = config_.attention_position();
  const bool rope = inside.has_rope();
  if (inside.has_relative_bias()) return lacks("relative_bias in this form");
  if (inside.has_irpe()) return lacks("irpe");
  if (!config_.conditional_position_after().empty()) return lacks("conditional_position_after");
  if (config_.norm_epsilon() != 1e-6) return lacks(absl::StrCat("a norm_epsilon of ", config_.norm_epsilon()));
  if (rope != (config_.layer_scale() > 0)) {
    return lacks(rope ? "rope and without layer_scale" : "layer_scale under these names");
  }
  if (rope && distillation_token_.defined()) return lacks("rope and a distillation token");

  const std::string size = width_ == 192 ? "tiny" : width_ == 384 ? "small" : "base";
  TimmModel model;
  model.arguments = {{"patch_size", int64_t{config_.patch_size()}},
                     {"embed_dim", width_},
                     {"depth", int64_t{config_.depth()}},
                     {"num_heads", heads_},
                     {"mlp_ratio", config_.mlp_ratio()},
                     {"qkv_bias", config_.qkv_bias()}};
  if (!class_token_.defined()) model.arguments["class_token"] = false;
  if (rope) {
    model.architecture = frequencies_.defined() ? "vit_base_patch16_rope_mixed_224" : "vit_base_patch16_rope_224";
    model.arguments["rope_temperature"] = inside.rope().temperature();
    model.arguments["use_abs_pos_emb"] = position_.defined();
    model.arguments["use_fc_norm"] = false;
    return model;
  }
  model.architecture = distillation_token_.defined() ? absl::StrCat("deit_", size, "_distilled_patch16_224")
                                                     : absl::StrCat("vit_", size, "_patch16_224");
  if (!position_.defined()) model.arguments["pos_embed"] = std::string("none");
  if (!class_token_.defined()) model.arguments["fc_norm"] = false;
  return model;
}

namespace {

const Registration<Backbone, Vit> kRegistration("Vision transformer: ViT and DeiT",
                                                "patch_size: 8 embed_dim: 32 depth: 2 num_heads: 2",
                                                &VitBackbone::Create);

}  // namespace
}  // namespace graticule
