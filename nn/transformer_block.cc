#include "nn/transformer_block.h"

#include <utility>

namespace graticule {

TransformerBlock::TransformerBlock(const TransformerBlockOptions& options, std::unique_ptr<AttentionEncoding> encoding)
    : norm1_(options.attention.width, options.norm_epsilon),
      attn_(options.attention, std::move(encoding)),
      norm2_(options.attention.width, options.norm_epsilon),
      mlp_(options.attention.width, options.mlp_hidden, options.mlp_dropout),
      drop_path_(options.drop_path) {
  RegisterModule("norm1", &norm1_);
  RegisterModule("attn", &attn_);
  RegisterModule("norm2", &norm2_);
  RegisterModule("mlp", &mlp_);
  RegisterModule("drop_path", &drop_path_);
}

at::Tensor TransformerBlock::Forward(const at::Tensor& x, const at::Tensor& position) const {
  at::Tensor normed = norm1_.Forward(x);
  if (position.defined()) normed = normed.add(position);
  const at::Tensor attended = drop_path_.Add(x, attn_.Forward(normed));
  return drop_path_.Add(attended, mlp_.Forward(norm2_.Forward(attended)));
}

}  // namespace graticule
