#include "nn/attention.h"

#include <cmath>
#include <utility>
#include <vector>

#include "ATen/ops/_unsafe_view.h"
#include "ATen/ops/dropout.h"
#include "ATen/ops/scaled_dot_product_attention.h"
#include "plugin/logging.h"

namespace graticule {

Attention::Attention(const AttentionOptions& options, std::unique_ptr<AttentionEncoding> encoding)
    : heads_(options.heads),
      interleaved_heads_(options.interleaved_heads),
      attention_dropout_(options.attention_dropout),
      windows_(options.windows),
      qkv_(options.width, 3 * options.width, options.qkv_bias),
      proj_(options.width, options.width),
      dropout_(options.projection_dropout) {
  CHECK_EQ(options.width % options.heads, 0) << "heads must divide the width";
  RegisterModule("qkv", &qkv_);
  RegisterModule("proj", &proj_);
  RegisterModule("dropout", &dropout_);
  if (encoding != nullptr) encoding_ = RegisterModule("", std::move(encoding));
  if (windows_) {
    CHECK(!interleaved_heads_) << "windows are joined head after head";
    const at::Tensor mask = windows_->Mask();
    if (mask.defined()) mask_ = RegisterConstant(mask);
  }
}

at::Tensor Attention::Forward(const at::Tensor& x) const {
  if (!windows_) return Forward(x, x.size(-2));
  // The windows are cut out after the projection, by the copy that brings the heads' channels together anyway.
  const std::vector<at::Tensor> qkv = SplitHeads(qkv_.Forward(windows_->Shift(x)));
  const at::Tensor y = Attend(windows_->Split(qkv[0]), windows_->Split(qkv[1]), windows_->Split(qkv[2]));
  return dropout_.Forward(proj_.Forward(windows_->Unshift(windows_->Join(y))));
}

at::Tensor Attention::Forward(const at::Tensor& x, int64_t queries) const {
  const int64_t tokens = x.size(-2);
  CHECK(!windows_) << "windows have no queries of their own";
  CHECK(queries == tokens || encoding_ == nullptr) << "encodings are of all pairs of tokens";
  const std::vector<at::Tensor> qkv = SplitHeads(qkv_.Forward(x));
  const auto by_head = [&](const at::Tensor& t) {
    return t.reshape({-1, t.size(-3), heads_, t.size(-1)}).transpose(1, 2);
  };
  const at::Tensor q = queries == tokens ? qkv[0] : qkv[0].narrow(-3, tokens - queries, queries);
  const at::Tensor y = Attend(by_head(q), by_head(qkv[1]), by_head(qkv[2]));
  std::vector<int64_t> shape = x.sizes().vec();
  shape[shape.size() - 2] = queries;
  const at::Tensor by_token = interleaved_heads_ ? y.permute({0, 2, 3, 1}) : y.transpose(1, 2);
  return dropout_.Forward(proj_.Forward(by_token.reshape(shape)));
}

std::vector<at::Tensor> Attention::SplitHeads(const at::Tensor& qkv) const {
  // Views, whose gradients become that of qkv by a single copy.
  return qkv.unflatten(-1, {3, heads_, qkv.size(-1) / (3 * heads_)}).unbind(-3);
}

at::Tensor Attention::Attend(at::Tensor q, at::Tensor k, const at::Tensor& v) const {
  at::Tensor bias = mask_;
  if (encoding_ != nullptr) {
    encoding_->Rotate(q, k);
    const at::Tensor added = encoding_->Bias(q);
    if (added.defined()) bias = bias.defined() ? bias.add(added) : added;
  }
  const double dropout = training() ? attention_dropout_ : 0.0;
  if (!bias.defined()) return at::scaled_dot_product_attention(q, k, v, {}, dropout);

  // By hand: where a bias wants a gradient, LibTorch's fused kernel on the CPU falls back to passes of its own over the
  // logits, which take longer. The product adds itself to a copy of the bias, so that neither costs another pass.
  const int64_t batch = q.size(0), queries = q.size(2), tokens = k.size(2), width = q.size(3);
  const int64_t period = bias.dim() == 4 ? bias.size(0) : 1;  // windows of an image
  const auto flat = [&](const at::Tensor& t) { return t.reshape({batch * heads_, t.size(2), width}); };
  at::Tensor weights = at::_unsafe_view(bias.to(q.scalar_type())
                                            .expand({batch / period, period, heads_, queries, tokens})
                                            .clone(at::MemoryFormat::Contiguous),
                                        {batch * heads_, queries, tokens});
  weights.baddbmm_(flat(q), flat(k).transpose(1, 2), /*beta=*/1, /*alpha=*/1 / std::sqrt(static_cast<double>(width)));
  weights = weights.softmax(-1);
  if (dropout > 0) weights = at::dropout(weights, dropout, /*train=*/true);
  return weights.bmm(flat(v)).unflatten(0, {batch, heads_});
}

}  // namespace graticule
