#include "patch_mlp/patch_mlp.h"

#include <memory>

#include "ATen/ops/gelu.h"
#include "absl/strings/str_cat.h"
#include "plugin/registry.h"

namespace my_lab {

using graticule::Size2d;

absl::StatusOr<std::unique_ptr<graticule::Backbone>> PatchMlpBackbone::Create(
    const PatchMlp& config, const graticule::BackboneContext& context) {
  graticule::FieldErrors errors;
  const Size2d image = context.image_size;
  const int64_t patch = config.patch_size();
  if (patch <= 0 || image.height % patch != 0 || image.width % patch != 0) {
    errors.Add("patch_size", absl::StrCat(patch, " does not divide the image of ", image.height, "×", image.width));
  }
  if (config.embed_dim() <= 0) errors.Add("embed_dim", "must be positive");
  if (context.contract.class_token) errors.Add("", "PatchMlp has no class token; choose a pooling that averages");
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<graticule::Backbone>(
      new PatchMlpBackbone(config, {image.height / patch, image.width / patch}, context.channels));
}

PatchMlpBackbone::PatchMlpBackbone(const PatchMlp& config, Size2d grid, int64_t channels)
    : width_(config.embed_dim()),
      grid_(grid),
      patch_embed_(channels, config.patch_size(), width_),
      fc1_(width_, 2 * width_),
      fc2_(2 * width_, width_),
      norm_(width_, 1e-6) {
  RegisterModule("patch_embed", &patch_embed_);
  pos_embed_ = RegisterParameter("pos_embed",
                                 graticule::init::TruncNormal(graticule::NewParameter({1, grid.area(), width_}), 0.02),
                                 {.decay = false});
  RegisterModule("fc1", &fc1_);
  RegisterModule("fc2", &fc2_);
  RegisterModule("norm", &norm_);
}

graticule::TokenMap PatchMlpBackbone::Forward(const at::Tensor& images) {
  const at::Tensor x = patch_embed_.Forward(images).add(pos_embed_);  // [B,N,D]
  const at::Tensor y = norm_.Forward(x.add(fc2_.Forward(at::gelu(fc1_.Forward(x)))));
  return {.tokens = y, .grid = grid_, .position = pos_embed_};
}

namespace {
const graticule::Registration<graticule::Backbone, PatchMlp> kRegistration("Patches through an MLP each, no attention",
                                                                           "patch_size: 4 embed_dim: 16",
                                                                           &PatchMlpBackbone::Create);
}  // namespace

}  // namespace my_lab
