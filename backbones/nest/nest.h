// NesT: transformers within blocks of the map, and a convolution and a pooling between the levels that let the blocks
// see each other; with every position delivery that needs no class token.
#ifndef GRATICULE_BACKBONES_NEST_NEST_H_
#define GRATICULE_BACKBONES_NEST_NEST_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "backbones/nest/nest.pb.h"
#include "nn/conv.h"
#include "nn/layers.h"
#include "nn/patch_embed.h"
#include "nn/position_delivery.h"
#include "nn/token_map.h"
#include "nn/transformer_block.h"

namespace graticule {

// Between two levels: 3×3 convolution, LayerNorm over the channels, 3×3 max-pooling at stride 2. Parameters conv, norm.
class NestPool : public Module {
 public:
  NestPool(int64_t in, int64_t out, double norm_epsilon, Nest::PoolPadding padding);
  // Map [B,h,w,in], of even sides, to [B,h/2,w/2,out].
  at::Tensor Forward(const at::Tensor& map) const;
  std::string TypeName() const override { return "NestPool"; }

 private:
  Conv2d conv_;
  LayerNorm norm_;
  Nest::PoolPadding padding_;
};

// How a level's map is cut: into blocks² blocks, in raster order, of h×w tokens each, in raster order.
struct NestBlocks {
  int64_t blocks = 1;  // down and across
  Size2d block;

  // [B,blocks·h,blocks·w,D] to [B,blocks²,h·w,D]; at most one copy.
  at::Tensor Split(const at::Tensor& map) const;
  // The inverse.
  at::Tensor Join(const at::Tensor& tokens) const;
  // blocks·h×blocks·w.
  Size2d map() const { return {blocks * block.height, blocks * block.width}; }
};

// Parameters have timm's names: patch_embed.proj, levels.l.pos_embed [1,blocks²,h·w,D], levels.l.pool.{conv,norm} from
// level 1 on, levels.l.transformer_encoder.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}, norm; and those of
// PositionDeliveryNorms, which number the layers through all levels.
//
// Each level has a position of its own, so the delivery starts anew with each: pos_{l-1} of a level's first layer, and
// pos_0 of all its layers, is the level's table. That of the last level is the pos_0 of the last norm.
class NestBackbone : public Backbone {
 public:
  // Errors: an image that the levels' blocks don't tile, lists that differ in length, heads that don't divide the
  // width, numbers out of range, a delivery that doesn't fit the layers, a class token.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const Nest& config, const BackboneContext& context);

  TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return levels_.back().position.size(-1); }
  Size2d grid() const override { return levels_.back().blocks.map(); }
  int64_t prefix_tokens() const override { return 0; }
  // Position tables of another image size.
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  absl::StatusOr<TimmModel> Timm() const override;
  std::string TypeName() const override { return "Nest"; }
  std::map<std::string, int64_t> LayerMembers() const override;

 private:
  struct Level {
    NestBlocks blocks;
    std::unique_ptr<NestPool> pool;  // null in level 0
    at::Tensor position;             // [1,blocks²,h·w,D]
    std::vector<std::unique_ptr<TransformerBlock>> encoder;
  };

  // `config` with all defaults filled in.
  NestBackbone(const Nest& config, const BackboneContext& context);

  const Nest config_;
  PatchEmbed patch_embed_;
  std::vector<Level> levels_;
  LayerNorm norm_;
  PositionDeliveryNorms delivery_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_NEST_NEST_H_
