// Vision transformer: ViT and DeiT, with every position delivery.
#ifndef GRATICULE_BACKBONES_VIT_VIT_H_
#define GRATICULE_BACKBONES_VIT_VIT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "backbones/vit/vit.pb.h"
#include "nn/attention.h"
#include "nn/conditional_position.h"
#include "nn/layers.h"
#include "nn/patch_embed.h"
#include "nn/position_delivery.h"
#include "nn/token_map.h"
#include "nn/transformer_block.h"

namespace graticule {

// Parameters have timm's names: cls_token and dist_token [1,1,D], pos_embed [1,T,D], patch_embed.proj,
// blocks.i.{norm1,attn.qkv, attn.proj,norm2,mlp.fc1,mlp.fc2}, norm; gamma_1 and gamma_2 in a block, rope.freqs
// [2,depth,H,d/2], attn.rpe_k and attn.relative_position_bias_table where the config asks for them; pos_block.i.proj.0,
// the conditional encodings; and those of PositionDeliveryNorms.
class VitBackbone : public Backbone {
 public:
  // Errors: an image that the patches don't tile, heads that don't divide the width, numbers out of range, a delivery
  // that doesn't fit the depth or lacks a position.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const Vit& config, const BackboneContext& context);

  TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return width_; }
  Size2d grid() const override { return grid_; }
  int64_t prefix_tokens() const override { return class_token_.defined() + distillation_token_.defined(); }
  // Encodings that need the whole grid leave no choice.
  bool CanSelect() const override {
    return config_.attention_position().kind_case() == AttentionPosition::KIND_NOT_SET &&
           config_.conditional_position_after().empty();
  }
  TokenMap ForwardSelected(const at::Tensor& images, const PatchSelection& selection) override;
  // Position tables of another grid, or with the row of a class token that this model lacks, or without an axis for the
  // batch; relative biases of another grid; frequencies with the heads in one axis.
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  // Those of LaPE, RoPE-ViT and timm's LayerScale; and timm's mean before the norm, which is refused.
  std::vector<WeightLayout> Layouts() const override;
  absl::StatusOr<TimmModel> Timm() const override;
  std::string TypeName() const override { return "Vit"; }
  std::map<std::string, int64_t> LayerMembers() const override;

 private:
  // `config` with all defaults filled in.
  VitBackbone(const Vit& config, const BackboneContext& context);

  std::unique_ptr<AttentionEncoding> NewEncoding(int64_t layer) const;
  // x [B,V,D] patch tokens, position [1 or B,T,D] of the prefix tokens and of them.
  at::Tensor Encode(at::Tensor x, const at::Tensor& position);

  const Vit config_;
  int64_t width_;
  int64_t heads_;
  Size2d grid_;
  at::Tensor class_token_;         // undefined without one
  at::Tensor distillation_token_;  // undefined without one
  at::Tensor position_;            // undefined without one
  at::Tensor frequencies_;         // of mixed rotations; else undefined
  PatchEmbed patch_embed_;
  Dropout position_dropout_;
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
  std::vector<std::unique_ptr<ConditionalPosition>> conditional_;  // by layer, of what comes after it; null for none
  LayerNorm norm_;
  PositionDeliveryNorms delivery_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_VIT_VIT_H_
