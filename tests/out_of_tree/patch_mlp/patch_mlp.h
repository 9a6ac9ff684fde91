#ifndef MY_LAB_PATCH_MLP_PATCH_MLP_H_
#define MY_LAB_PATCH_MLP_PATCH_MLP_H_

#include <memory>

#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "nn/layers.h"
#include "nn/patch_embed.h"
#include "patch_mlp/patch_mlp.pb.h"

namespace my_lab {

// tokens = norm(x + fc2(gelu(fc1(x)))), x the embedded patches + pos_embed.
class PatchMlpBackbone : public graticule::Backbone {
 public:
  static absl::StatusOr<std::unique_ptr<graticule::Backbone>> Create(const PatchMlp& config,
                                                                     const graticule::BackboneContext& context);

  graticule::TokenMap Forward(const at::Tensor& images) override;
  int64_t width() const override { return width_; }
  graticule::Size2d grid() const override { return grid_; }
  int64_t prefix_tokens() const override { return 0; }

 private:
  PatchMlpBackbone(const PatchMlp& config, graticule::Size2d grid, int64_t channels);

  int64_t width_;
  graticule::Size2d grid_;
  graticule::PatchEmbed patch_embed_;
  at::Tensor pos_embed_;  // [1,N,D]
  graticule::Linear fc1_, fc2_;
  graticule::LayerNorm norm_;
};

}  // namespace my_lab

#endif  // MY_LAB_PATCH_MLP_PATCH_MLP_H_
