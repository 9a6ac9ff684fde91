#include "nn/attention.h"

#include <optional>
#include <vector>

#include "ATen/ops/scaled_dot_product_attention.h"
#include "plugin/logging.h"

namespace graticule {

Attention::Attention(const AttentionOptions& options)
    : heads_(options.heads),
      attention_dropout_(options.attention_dropout),
      qkv_(options.width, 3 * options.width, options.qkv_bias),
      proj_(options.width, options.width),
      dropout_(options.projection_dropout) {
  CHECK_EQ(options.width % options.heads, 0) << "heads must divide the width";
  RegisterModule("qkv", &qkv_);
  RegisterModule("proj", &proj_);
  RegisterModule("dropout", &dropout_);
}

at::Tensor Attention::Forward(const at::Tensor& x) const {
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  // Splitting the last axis keeps q, k and v views, whose gradients are put together by a single copy.
  const std::vector<at::Tensor> qkv = qkv_.Forward(x).split(width, -1);
  const auto by_head = [&](const at::Tensor& t) {
    return t.view({batch, tokens, heads_, width / heads_}).transpose(1, 2);
  };
  const at::Tensor y =
      at::scaled_dot_product_attention(by_head(qkv[0]), by_head(qkv[1]), by_head(qkv[2]),
                                       /*attn_mask=*/std::nullopt, training() ? attention_dropout_ : 0.0);
  return dropout_.Forward(proj_.Forward(y.transpose(1, 2).reshape({batch, tokens, width})));
}

}  // namespace graticule
