// Multi-head self-attention.
#ifndef GRATICULE_NN_ATTENTION_H_
#define GRATICULE_NN_ATTENTION_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/layers.h"
#include "nn/module.h"

namespace graticule {

struct AttentionOptions {
  int64_t width = 0;
  int64_t heads = 1;  // divides the width
  bool qkv_bias = true;
  double attention_dropout = 0;   // of the softmax's weights
  double projection_dropout = 0;  // of what comes out
};

// proj(softmax(q·kᵀ / √d)·v) (arXiv 1706.03762), d = width / heads. Parameters as in timm: qkv.weight [3D,D], whose
// rows are those of q, then k, then v, each head after head; proj.
class Attention : public Module {
 public:
  explicit Attention(const AttentionOptions& options);
  // [B,T,D] to [B,T,D].
  at::Tensor Forward(const at::Tensor& x) const;
  std::string TypeName() const override { return "Attention"; }

 private:
  int64_t heads_;
  double attention_dropout_;
  Linear qkv_;
  Linear proj_;
  Dropout dropout_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_ATTENTION_H_
