#include "nn/attention.h"

#include <optional>
#include <utility>
#include <vector>

#include "ATen/ops/scaled_dot_product_attention.h"
#include "plugin/logging.h"

namespace graticule {

Attention::Attention(const AttentionOptions& options, std::unique_ptr<AttentionEncoding> encoding)
    : heads_(options.heads),
      attention_dropout_(options.attention_dropout),
      qkv_(options.width, 3 * options.width, options.qkv_bias),
      proj_(options.width, options.width),
      dropout_(options.projection_dropout) {
  CHECK_EQ(options.width % options.heads, 0) << "heads must divide the width";
  RegisterModule("qkv", &qkv_);
  RegisterModule("proj", &proj_);
  RegisterModule("dropout", &dropout_);
  if (encoding != nullptr) encoding_ = RegisterModule("", std::move(encoding));
}

at::Tensor Attention::Forward(const at::Tensor& x, int64_t queries) const {
  const int64_t tokens = x.size(-2), width = x.size(-1), batch = x.numel() / (tokens * width);
  // Splitting the last axis keeps q, k and v views, whose gradients are put together by a single copy.
  const std::vector<at::Tensor> qkv = qkv_.Forward(x).split(width, -1);
  const auto by_head = [&](const at::Tensor& t) {
    return t.view({batch, t.size(-2), heads_, width / heads_}).transpose(1, 2);
  };
  at::Tensor q = by_head(queries == tokens ? qkv[0] : qkv[0].narrow(-2, tokens - queries, queries));
  at::Tensor k = by_head(qkv[1]);
  std::optional<at::Tensor> bias;
  if (encoding_ != nullptr) {
    CHECK_EQ(queries, tokens) << "encodings are of all pairs of tokens";
    encoding_->Rotate(q, k);
    if (const at::Tensor added = encoding_->Bias(q); added.defined()) bias = added;
  }
  const at::Tensor y =
      at::scaled_dot_product_attention(q, k, by_head(qkv[2]), bias, training() ? attention_dropout_ : 0.0);
  std::vector<int64_t> shape = x.sizes().vec();
  shape[shape.size() - 2] = queries;
  return dropout_.Forward(proj_.Forward(y.transpose(1, 2).reshape(shape)));
}

}  // namespace graticule
