// Tokens-to-Token ViT, with every position delivery.
#ifndef GRATICULE_BACKBONES_T2T_VIT_T2T_VIT_H_
#define GRATICULE_BACKBONES_T2T_VIT_T2T_VIT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "backbones/t2t_vit/t2t_vit.pb.h"
#include "nn/layers.h"
#include "nn/position_delivery.h"
#include "nn/token_map.h"
#include "nn/transformer_block.h"

namespace graticule {

class TokensToToken;

// Two rounds of attention among overlapping windows make tokens of 16×16 pixels; a plain transformer follows.
// Parameters have the names of yitu-opensource/T2T-ViT:
// tokens_to_token.attention{1,2}.{norm1,kqv,proj,norm2,mlp.0,mlp.2,w}
// ({norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2} of softmax attention), tokens_to_token.project, cls_token [1,1,D],
// pos_embed [1,T,D], blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}, norm; and those of
// PositionDeliveryNorms. pos_embed (a sinusoid of the token's index) and the random features' w are fixed.
class T2tVitBackbone : public Backbone {
 public:
  // Errors: sides of the image that aren't multiples of 16, heads that don't divide the width, numbers out of range, a
  // delivery that doesn't fit the depth, a distillation token.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const T2tVit& config, const BackboneContext& context);

  TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return width_; }
  Size2d grid() const override { return grid_; }
  int64_t prefix_tokens() const override { return class_token_.defined(); }
  // Positions of another grid, or with the row of a class token that this model lacks: the checkpoint's weights know
  // its own table, so that is what is interpolated.
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  std::string TypeName() const override { return "T2tVit"; }

 private:
  // `config` with all defaults filled in.
  T2tVitBackbone(const T2tVit& config, const BackboneContext& context);

  int64_t width_;
  Size2d grid_;
  at::Tensor class_token_;  // undefined without one
  at::Tensor position_;
  TokensToToken* tokens_to_token_;
  Dropout position_dropout_;
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
  LayerNorm norm_;
  PositionDeliveryNorms delivery_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_T2T_VIT_T2T_VIT_H_
