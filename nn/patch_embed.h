// From pixels to tokens.
#ifndef GRATICULE_NN_PATCH_EMBED_H_
#define GRATICULE_NN_PATCH_EMBED_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/module.h"

namespace graticule {

// A convolution whose kernel and stride are the patch. Parameters proj.weight [D,C,p,p] and proj.bias [D], which start
// as PyTorch's convolutions do (uniform within ±1/√(C·p·p)), as in timm.
class PatchEmbed : public Module {
 public:
  PatchEmbed(int64_t channels, int64_t patch_size, int64_t width);
  // images [B,C,H,W] in any memory format, H and W multiples of p; out [B,N,D] in raster order.
  at::Tensor Forward(const at::Tensor& images) const;
  std::string TypeName() const override { return "PatchEmbed"; }

 private:
  int64_t patch_size_;
  at::Tensor weight_;
  at::Tensor bias_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_PATCH_EMBED_H_
