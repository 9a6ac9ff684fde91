// Swin transformer, with every position delivery.
#ifndef GRATICULE_BACKBONES_SWIN_SWIN_H_
#define GRATICULE_BACKBONES_SWIN_SWIN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "backbones/swin/swin.pb.h"
#include "nn/conditional_position.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/patch_embed.h"
#include "nn/position_delivery.h"
#include "nn/token_map.h"
#include "nn/transformer_block.h"
#include "nn/weight_layout.h"

namespace graticule {

// Joins 2×2 tokens, column after column, and projects them to twice the width: reduction(norm(x)). Parameters norm [4C]
// and reduction.weight [2C,4C]; [C] and [2C,C] where the tokens are not joined.
class PatchMerging : public Module {
 public:
  PatchMerging(int64_t width, bool join, double norm_epsilon);
  // [B,h,w,C] to [B,h/2,w/2,2C], or [B,h,w,2C] where they are not joined.
  at::Tensor Forward(const at::Tensor& x) const;
  // The same without weights: the mean of the joined tokens, with the channels repeated.
  at::Tensor Mean(const at::Tensor& x) const;
  std::string TypeName() const override { return "PatchMerging"; }

 private:
  int64_t side_;  // 2, or 1 where the tokens are not joined
  LayerNorm norm_;
  Linear reduction_;
};

// A layer: x' = x + cpe(x) where there is a conditional position; y = block(x').
class SwinBlock : public Module {
 public:
  SwinBlock(bool conditional_position, const TransformerBlockOptions& options,
            std::unique_ptr<AttentionEncoding> encoding);
  // x [B,h,w,C]; position [1,h,w,C] or undefined.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& position) const;
  std::string TypeName() const override { return "SwinBlock"; }
  bool IsLayer() const override { return true; }

 private:
  std::optional<ConditionalPosition> conditional_position_;
  TransformerBlock block_;
};

// Parameters have timm's names: patch_embed.{proj,norm}, layers.S.downsample.{norm,reduction} (from stage 1 on),
// layers.S.blocks.B.{norm1,attn.relative_position_bias_table,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}, norm; those of
// the official codes where timm has no such thing: absolute_pos_embed [1,N,C], layers.S.blocks.B.cpe; and those of
// PositionDeliveryNorms, whose layers are counted through the stages.
class SwinBackbone : public Backbone {
 public:
  // Errors: an image that the patches and their mergings don't tile, heads that don't divide a stage's width, lists of
  // different lengths, numbers out of range, a class token, a delivery that doesn't fit the depth or lacks a position.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const Swin& config, const BackboneContext& context);

  // TokenMap::position is absolute_pos_embed, at the first stage's grid and width.
  TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return stages_.back().width; }
  Size2d grid() const override { return stages_.back().map; }
  int64_t prefix_tokens() const override { return 0; }
  // Relative biases of another window, absolute positions of another grid.
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  std::string HeadName() const override { return "head.fc"; }
  std::vector<WeightLayout> Layouts() const override;
  absl::StatusOr<TimmModel> Timm() const override;
  std::string TypeName() const override { return "Swin"; }

 private:
  struct Stage {
    int64_t width;
    int64_t heads;
    Size2d map;
    Size2d window;
    std::unique_ptr<PatchMerging> merging;  // before its layers; none in the first
    std::vector<std::unique_ptr<SwinBlock>> blocks;
  };

  // `config` with all defaults filled in.
  SwinBackbone(const Swin& config, const BackboneContext& context);

  Swin config_;
  PatchEmbed patch_embed_;
  std::optional<LayerNorm> patch_norm_;
  at::Tensor position_;  // undefined without one
  Dropout position_dropout_;
  std::vector<Stage> stages_;
  LayerNorm norm_;
  PositionDeliveryNorms delivery_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_SWIN_SWIN_H_
