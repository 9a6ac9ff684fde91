#include "nn/irpe.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "ATen/ops/full.h"

namespace graticule {

int64_t IrpeBucket(int64_t offset, const IrpeOptions& options) {
  const double distance = std::abs(offset);
  if (distance <= options.alpha) return offset;
  const double growth = std::log(distance / options.alpha) / std::log(options.gamma / options.alpha);
  // nearbyint rounds halves to even, as the official code's round() does.
  const double bucket = std::min(options.beta, std::nearbyint(options.alpha + growth * (options.beta - options.alpha)));
  return (offset > 0 ? 1 : -1) * static_cast<int64_t>(bucket);
}

IrpeEncoding::IrpeEncoding(Size2d grid, int64_t prefix_tokens, int64_t head_width, const IrpeOptions& options) {
  const int64_t beta = static_cast<int64_t>(options.beta), side = 2 * beta + 1;
  const int64_t tokens = prefix_tokens + grid.area();
  at::Tensor buckets = at::full({tokens, tokens}, side * side, at::kLong);
  auto entries = buckets.accessor<int64_t, 2>();
  for (int64_t i = 0; i < grid.area(); ++i) {
    for (int64_t j = 0; j < grid.area(); ++j) {
      const int64_t row = IrpeBucket(i / grid.width - j / grid.width, options);
      const int64_t column = IrpeBucket(i % grid.width - j % grid.width, options);
      entries[prefix_tokens + i][prefix_tokens + j] = (row + beta) * side + column + beta;
    }
  }
  buckets_ = RegisterConstant(buckets);
  const int64_t count = side * side + (prefix_tokens > 0 ? 1 : 0);
  weight_ = RegisterParameter("rpe_k.lookup_table_weight", init::Zeros(NewParameter({1, head_width, count})));
}

at::Tensor IrpeEncoding::Bias(const at::Tensor& q) const {
  const at::Tensor products = q.matmul(weight_).mul(1 / std::sqrt(static_cast<double>(q.size(-1))));  // [B,H,T,buckets]
  return products.gather(-1, buckets_.expand({q.size(0), q.size(1), -1, -1}));
}

}  // namespace graticule
