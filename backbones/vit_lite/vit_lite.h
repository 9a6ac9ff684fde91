// The Compact Transformers: ViT-Lite, CVT and CCT, with every position delivery.
#ifndef GRATICULE_BACKBONES_VIT_LITE_VIT_LITE_H_
#define GRATICULE_BACKBONES_VIT_LITE_VIT_LITE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "backbones/vit_lite/vit_lite.pb.h"
#include "nn/attention.h"
#include "nn/conv.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/token_map.h"
#include "nn/weight_layout.h"

namespace graticule {

// From pixels to tokens, by a convolution of patches or by the config's `convolutions`. Parameters
// conv_layers.i.0.weight (and bias, of patches), which start as a normal of variance 2 / fan-in.
class VitLiteTokenizer : public Module {
 public:
  // `config` with all defaults filled in.
  VitLiteTokenizer(const VitLite& config, int64_t image_channels);
  // images [B,C,H,W] to [B,N,D] in raster order.
  at::Tensor Forward(const at::Tensor& images) const;
  std::string TypeName() const override { return "VitLiteTokenizer"; }

 private:
  std::vector<Conv2d*> convolutions_;
  bool pools_;
  VitLite::Convolutions pooling_;  // its pool_… alone
};

// x' = norm1(x + self_attn(pre_norm(x) + position)); y = x' + linear2(GELU(linear1(x'))). Unlike in other layers the
// MLP's residual is the normed stream (TransformerEncoderLayer of github.com/SHI-Labs/Compact-Transformers,
// src/utils/transformers.py).
class VitLiteLayer : public Module {
 public:
  // `config` with all defaults filled in; `drop_path`: the layer's rate.
  VitLiteLayer(const VitLite& config, double drop_path);
  // x [B,T,D]; position [1,T,D], the layer's of DeliveredPosition, or undefined for none.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& position) const;
  std::string TypeName() const override { return "VitLiteLayer"; }
  bool IsLayer() const override { return true; }

 private:
  LayerNorm pre_norm_;
  Attention self_attn_;
  LayerNorm norm1_;
  Mlp mlp_;
  DropPath drop_path_;
};

// Parameters have the official names: tokenizer.conv_layers.i.0, classifier.{class_emb [1,1,D], positional_emb [1,T,D],
// norm} and classifier.blocks.i.{pre_norm,self_attn.qkv,self_attn.proj,linear1,norm1,linear2}; and those of
// PositionDeliveryNorms.
class VitLiteBackbone : public Backbone {
 public:
  // Errors: an image that the patches don't tile or the convolutions use up, heads that don't divide the width, numbers
  // out of range, a distillation token, a delivery that doesn't fit the depth or lacks a position.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const VitLite& config, const BackboneContext& context);

  TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return width_; }
  Size2d grid() const override { return grid_; }
  int64_t prefix_tokens() const override { return class_token_.defined(); }
  // Position tables of another grid, or with the row of a class token that this model lacks.
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  std::string HeadName() const override { return "classifier.fc"; }
  std::vector<WeightLayout> Layouts() const override;
  std::string TypeName() const override { return "VitLite"; }

 private:
  // `config` with all defaults filled in.
  VitLiteBackbone(const VitLite& config, const BackboneContext& context);

  int64_t width_;
  Size2d grid_;
  at::Tensor class_token_;  // undefined without one
  at::Tensor position_;     // undefined without one
  VitLiteTokenizer tokenizer_;
  Dropout dropout_;
  std::vector<VitLiteLayer*> layers_;
  LayerNorm norm_;
  PositionDeliveryNorms delivery_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_VIT_LITE_VIT_LITE_H_
