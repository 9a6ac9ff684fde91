// Image relative position encoding (iRPE, arXiv 2107.14222).
// https://github.com/microsoft/Cream/tree/main/iRPE (behaviour)
#ifndef GRATICULE_NN_IRPE_H_
#define GRATICULE_NN_IRPE_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "nn/attention.h"
#include "nn/token_map.h"

namespace graticule {

struct IrpeOptions {
  double alpha = 1.9;
  double beta = 3.8;
  double gamma = 15.2;
};

// g(x) of the paper's equation 18 for a whole offset x: x where |x| ≤ α, else sign(x)·min(β, [α + ln(|x|/α) / ln(γ/α) ·
// (β - α)]) without its fraction.
int64_t IrpeBucket(int64_t offset, const IrpeOptions& options);

// Contextual, product method, on keys: the logit of query i and key j gets (q_i/√d)·W[:,bucket(i,j)], with bucket
// (g(rows) + β)·(2β+1) + g(columns) + β of the offset i - j, β whole, and one more bucket where either is a prefix
// token. Parameter rpe_k.lookup_table_weight [1,d,buckets], 0 at first; the heads share it.
class IrpeEncoding : public AttentionEncoding {
 public:
  IrpeEncoding(Size2d grid, int64_t prefix_tokens, int64_t head_width, const IrpeOptions& options);
  at::Tensor Bias(const at::Tensor& q) const override;
  std::string TypeName() const override { return "IrpeEncoding"; }

 private:
  at::Tensor buckets_;  // [T,T] int64
  at::Tensor weight_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_IRPE_H_
