// The layer of a plain vision transformer.
#ifndef GRATICULE_NN_TRANSFORMER_BLOCK_H_
#define GRATICULE_NN_TRANSFORMER_BLOCK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/attention.h"
#include "nn/layers.h"
#include "nn/module.h"

namespace graticule {

struct TransformerBlockOptions {
  AttentionOptions attention;
  int64_t mlp_hidden = 0;
  double mlp_dropout = 0;
  double drop_path = 0;
  double norm_epsilon = 1e-6;
  // What each channel of a branch is multiplied by at first (LayerScale, arXiv 2103.17239); 0: there is no such factor.
  double layer_scale = 0;
};

// Pre-norm: x' = x + γ₁·attn(norm1(x) + position); y = x' + γ₂·mlp(norm2(x')); parameters gamma_1 and gamma_2 [D],
// where there is a LayerScale.
class TransformerBlock : public Module {
 public:
  explicit TransformerBlock(const TransformerBlockOptions& options,
                            std::unique_ptr<AttentionEncoding> encoding = nullptr);
  // x [B,...,T,D]; position [1,...,T,D], the layer's of DeliveredPosition, or undefined for none.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& position) const;
  std::string TypeName() const override { return "TransformerBlock"; }
  bool IsLayer() const override { return true; }

 private:
  LayerNorm norm1_;
  Attention attn_;
  LayerNorm norm2_;
  Mlp mlp_;
  DropPath drop_path_;
  at::Tensor gamma_1_, gamma_2_;  // undefined without LayerScale
};

}  // namespace graticule

#endif  // GRATICULE_NN_TRANSFORMER_BLOCK_H_
