// Multi-head self-attention.
#ifndef GRATICULE_NN_ATTENTION_H_
#define GRATICULE_NN_ATTENTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/windows.h"

namespace graticule {

struct AttentionOptions {
  int64_t width = 0;
  int64_t heads = 1;  // divides the width
  bool qkv_bias = true;
  double attention_dropout = 0;                   // of the softmax's weights
  double projection_dropout = 0;                  // of what comes out
  std::optional<Windows> windows = std::nullopt;  // attention within each; none: among all tokens
  // Of what comes out before `proj`: head after head, or (NesT) the first channels of all heads, then their second
  // ones, and so on. Not with windows.
  bool interleaved_heads = false;
};

// What a position encoding does inside the attention: it turns queries and keys (RoPE) or adds to the logits (relative
// biases, iRPE).
class AttentionEncoding : public Module {
 public:
  // q and k [B,H,T,d] as the projection gives them; may replace them.
  virtual void Rotate(at::Tensor& q, at::Tensor& k) const {}
  // Added to the logits q·kᵀ/√d; broadcasts to [B,H,T,T]. Undefined for nothing.
  virtual at::Tensor Bias(const at::Tensor& q) const { return at::Tensor(); }
};

// proj(softmax(q·kᵀ / √d)·v) (arXiv 1706.03762), d = width / heads. Parameters as in timm: qkv.weight [3D,D], whose
// rows are those of q, then k, then v, each head after head; proj. Those of the encoding stand beside them.
class Attention : public Module {
 public:
  explicit Attention(const AttentionOptions& options, std::unique_ptr<AttentionEncoding> encoding = nullptr);
  // [...,T,D] to [...,T,D]: attention among the T. With windows maps [B,h,w,D]: among the T of each window.
  at::Tensor Forward(const at::Tensor& x) const;
  // [...,T,D] to [...,queries,D]: the last `queries` of the T attend to all T. Where not all do, without an encoding;
  // not with windows.
  at::Tensor Forward(const at::Tensor& x, int64_t queries) const;
  std::string TypeName() const override { return "Attention"; }

 private:
  // [...,3D] to q, k and v [...,H,d].
  std::vector<at::Tensor> SplitHeads(const at::Tensor& qkv) const;
  // softmax(q·kᵀ / √d + biases)·v of q [B,H,Q,d], k and v [B,H,T,d].
  at::Tensor Attend(at::Tensor q, at::Tensor k, const at::Tensor& v) const;

  int64_t heads_;
  bool interleaved_heads_;
  double attention_dropout_;
  std::optional<Windows> windows_;
  at::Tensor mask_;                        // of the windows, may be undefined
  AttentionEncoding* encoding_ = nullptr;  // may be null
  Linear qkv_;
  Linear proj_;
  Dropout dropout_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_ATTENTION_H_
