#include "nn/transformer_block.h"

#include <utility>

#include "nn/activation_checkpointing.h"

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
  if (options.layer_scale != 0) {
    const int64_t width = options.attention.width;
    gamma_1_ = RegisterParameter("gamma_1", init::Constant(NewParameter({width}), options.layer_scale));
    gamma_2_ = RegisterParameter("gamma_2", init::Constant(NewParameter({width}), options.layer_scale));
  }
}

at::Tensor TransformerBlock::Forward(const at::Tensor& x, const at::Tensor& position) const {
  const auto layer = [this](const at::Tensor& x, const at::Tensor& position) {
    at::Tensor normed = norm1_.Forward(x);
    if (position.defined()) normed = normed.add(position);
    const auto scaled = [](const at::Tensor& gamma, const at::Tensor& branch) {
      return gamma.defined() ? branch.mul(gamma) : branch;
    };
    const at::Tensor attended = drop_path_.Add(x, scaled(gamma_1_, attn_.Forward(normed)));
    return drop_path_.Add(attended, scaled(gamma_2_, mlp_.Forward(norm2_.Forward(attended))));
  };
  return Checkpointed(layer, x, position);
}

}  // namespace graticule
