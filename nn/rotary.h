// Rotary position encodings in two dimensions (RoPE-ViT, arXiv 2403.13298).
// https://github.com/naver-ai/rope-vit (behaviour)
#ifndef GRATICULE_NN_ROTARY_H_
#define GRATICULE_NN_ROTARY_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/attention.h"
#include "nn/token_map.h"

namespace graticule {

// Frequencies [2,depth,H,d/2] of mixed rotations, of columns and of rows: those of the axial ones, turned by a random
// angle in each layer and head.
at::Tensor NewRotaryFrequencies(int64_t depth, int64_t heads, int64_t head_width, double temperature);

// Turns the pair of channels (2i, 2i+1) of queries and keys by an angle: column·f_i for the first half of the pairs and
// row·f_{i-d/4} for the second (axial), column·f⁰_i + row·f¹_i (mixed). Prefix tokens stay as they are.
class RotaryEncoding : public AttentionEncoding {
 public:
  // Axial: f_i = temperature^(-4i/d), the same for all layers and heads.
  RotaryEncoding(Size2d grid, int64_t prefix_tokens, int64_t head_width, double temperature);
  // Mixed: `frequencies` is a parameter of the backbone, of which this is layer `layer`.
  RotaryEncoding(Size2d grid, int64_t prefix_tokens, const at::Tensor& frequencies, int64_t layer);

  void Rotate(at::Tensor& q, at::Tensor& k) const override;
  std::string TypeName() const override { return "RotaryEncoding"; }

 private:
  at::Tensor cos_, sin_;    // axial: of the angles, [T,d/2]; else undefined
  at::Tensor places_;       // mixed: column and row [2,T,1], zeros for prefix tokens; else undefined
  at::Tensor frequencies_;  // mixed: [2,depth,H,d/2]; else undefined
  int64_t layer_ = 0;
};

}  // namespace graticule

#endif  // GRATICULE_NN_ROTARY_H_
