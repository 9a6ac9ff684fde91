// CeiT: a vision transformer with a convolutional stem, a depth-wise convolution in each layer's MLP, and attention
// over the layers at the end; with every position delivery.
#ifndef GRATICULE_BACKBONES_CEIT_CEIT_H_
#define GRATICULE_BACKBONES_CEIT_CEIT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "backbones/ceit/ceit.pb.h"
#include "nn/attention.h"
#include "nn/conv.h"
#include "nn/layers.h"
#include "nn/patch_embed.h"
#include "nn/position_delivery.h"
#include "nn/token_map.h"
#include "nn/transformer_block.h"

namespace graticule {

// Locally-enhanced feed-forward (section 3.2): BN(1×1(GELU(BN(k×k(GELU(BN(1×1(x)))))))) on the map of the patch tokens,
// the middle convolution depth-wise; the class token passes by. Parameters conv1..3 and bn1..3.
class CeitFeedForward : public Module {
 public:
  CeitFeedForward(int64_t width, int64_t hidden, int64_t kernel);
  // [B,prefix+h·w,D] to the same.
  at::Tensor Forward(const at::Tensor& x, Size2d grid) const;
  std::string TypeName() const override { return "CeitFeedForward"; }

 private:
  Conv2d conv1_, conv2_, conv3_;
  BatchNorm bn1_, bn2_, bn3_;
};

// x' = x + attn(norm1(x) + position); y = x' + leff(norm2(x')).
class CeitBlock : public Module {
 public:
  // `kernel`: of the feed-forward's convolution.
  CeitBlock(const TransformerBlockOptions& options, int64_t kernel);
  // x [B,T,D]; position [1,T,D], the layer's of DeliveredPosition, or undefined for none.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& position, Size2d grid) const;
  std::string TypeName() const override { return "CeitBlock"; }
  bool IsLayer() const override { return true; }

 private:
  LayerNorm norm1_;
  Attention attn_;
  LayerNorm norm2_;
  CeitFeedForward leff_;
  DropPath drop_path_;
};

// Layer-wise class-token attention (section 3.3): the last layer's token attends to those of all layers.
// c' = c + attn(norm1(all)); z = c' + feedforward(norm2(c')), where c is the last of all.
class LayerwiseAttention : public Module {
 public:
  explicit LayerwiseAttention(const TransformerBlockOptions& options);
  // [...,L,D], a token of each layer, to [...,D].
  at::Tensor Forward(const at::Tensor& layers) const;
  std::string TypeName() const override { return "LayerwiseAttention"; }

 private:
  LayerNorm norm1_;
  Attention attn_;
  LayerNorm norm2_;
  Mlp feedforward_;
};

// Parameters have the official code's names (github.com/coeusguo/ceit): i2t.backbone.{conv,bn}, i2t.proj, cls_token
// [1,1,D], pos_embed [1,T,D], blocks.i.{norm1,attn.qkv,attn.proj,norm2,leff.conv1..3,leff.bn1..3},
// lca.{norm1,attn.qkv,attn.proj,norm2,feedforward.fc1,feedforward.fc2}, pos_layer_embed [1,L,D], norm; and those of
// PositionDeliveryNorms.
class CeitBackbone : public Backbone {
 public:
  // Errors: an image that the patches don't tile, heads that don't divide the width, numbers out of range, a delivery
  // that doesn't fit the depth, a distillation token.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const Ceit& config, const BackboneContext& context);

  // With a class token, row 0 is LCA's result after the last norm, and the others are the last layer's patch tokens
  // after it. Without one, LCA has changed the patch tokens as the field average_lca says.
  TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return width_; }
  Size2d grid() const override { return grid_; }
  int64_t prefix_tokens() const override { return class_token_.defined(); }
  // Position tables of another grid, or with the row of a class token that this model lacks.
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  std::string TypeName() const override { return "Ceit"; }
  std::map<std::string, int64_t> LayerMembers() const override;

 private:
  // `config` with all defaults filled in.
  CeitBackbone(const Ceit& config, const BackboneContext& context);

  // images [B,3,H,W] to patch tokens [B,N,D].
  at::Tensor Stem(const at::Tensor& images) const;
  // What stands for a layer's tokens x [B,T,D] in LCA: [B,D], or [B,N,D] where each token stands for itself.
  at::Tensor Summary(const at::Tensor& x) const;

  int64_t width_;
  Size2d grid_;
  bool each_token_;
  Conv2d stem_conv_;
  BatchNorm stem_norm_;
  PatchEmbed patch_embed_;
  at::Tensor class_token_;  // undefined without one
  at::Tensor position_;
  Dropout position_dropout_;
  std::vector<std::unique_ptr<CeitBlock>> blocks_;
  std::unique_ptr<LayerwiseAttention> lca_;
  at::Tensor layer_position_;
  LayerNorm norm_;
  PositionDeliveryNorms delivery_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_CEIT_CEIT_H_
