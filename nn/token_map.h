// What backbones, pooling and objectives agree on. Axis letters, here and everywhere: B batch, N patch tokens, T tokens
// (N plus the prefix tokens), D width, h×w the grid of patches in raster order (N = h·w), K classes, L depth.
#ifndef GRATICULE_NN_TOKEN_MAP_H_
#define GRATICULE_NN_TOKEN_MAP_H_

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "nn/position_delivery.pb.h"
#include "nn/size2d.h"

namespace graticule {

// What a backbone returns. Patch token i (row prefix_tokens + i of `tokens`) is patch i in raster order; objectives,
// analysis and tests rely on it.
struct TokenMap {
  at::Tensor tokens;          // [B,T,D], after the last norm (and the last norm's position, where there is one)
  int64_t prefix_tokens = 0;  // how many of the T are not patches; the class token, where there is one, is token 0
  Size2d grid;                // h×w of the whole image, also under masking
  at::Tensor position;        // pos_0 [1,T,D], undefined where the backbone has none
  at::Tensor kept;            // under masking [B,V] int64: raster index of each visible patch token; else undefined
  std::vector<at::Tensor> features;  // for dense tasks, the stages' maps [B,C,h,w]; empty unless asked for

  // [B,N,D], or [B,V,D] under masking.
  at::Tensor PatchTokens() const {
    return prefix_tokens == 0 ? tokens : tokens.narrow(1, prefix_tokens, tokens.size(1) - prefix_tokens);
  }
};

// A pass over some of the patches: masked autoencoding, Jigsaw-ViT.
struct PatchSelection {
  at::Tensor kept;       // [B,V] int64: raster index of each patch token that goes through the layers, in any order
  bool position = true;  // false: the tokens never learn where they are
};

// What a pooling asks of the backbone, which meets it or says in a Status why it can't.
struct TokenContract {
  bool class_token = true;
  bool distillation_token = false;  // a second prefix token, after the class token (DeiT, arXiv 2012.12877)
  PositionDelivery delivery;
};

}  // namespace graticule

#endif  // GRATICULE_NN_TOKEN_MAP_H_
