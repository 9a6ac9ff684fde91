#include "nn/relative_position_bias.h"

#include <cmath>

#include "ATen/ops/cat.h"
#include "ATen/ops/embedding.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/upsample_bicubic2d.h"

namespace graticule {
namespace {

int64_t Offsets(Size2d window) { return (2 * window.height - 1) * (2 * window.width - 1); }

at::Tensor Index(Size2d window, int64_t prefix_tokens) {
  const int64_t tokens = prefix_tokens + window.area(), offsets = Offsets(window);
  at::Tensor index = at::empty({tokens, tokens}, at::kLong);
  auto entries = index.accessor<int64_t, 2>();
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t j = 0; j < tokens; ++j) {
      const int64_t a = i - prefix_tokens, b = j - prefix_tokens;
      const int64_t rows = a / window.width - b / window.width, columns = a % window.width - b % window.width;
      entries[i][j] = a >= 0 && b >= 0
                          ? (rows + window.height - 1) * (2 * window.width - 1) + columns + window.width - 1
                      : b >= 0 ? offsets
                      : a >= 0 ? offsets + 1
                               : offsets + 2;
    }
  }
  return index.flatten();
}

}  // namespace

RelativePositionBias::RelativePositionBias(Size2d window, int64_t heads, int64_t prefix_tokens)
    : tokens_(prefix_tokens + window.area()),
      table_(RegisterParameter(
          "relative_position_bias_table",
          init::TruncNormal(NewParameter({Offsets(window) + (prefix_tokens > 0 ? 3 : 0), heads}), 0.02),
          {.decay = false})),
      index_(RegisterConstant(Index(window, prefix_tokens))) {}

at::Tensor RelativePositionBias::Bias(const at::Tensor&) const {
  // Of the operators that gather rows, this one has the fastest gradient.
  return at::embedding(table_, index_).view({tokens_, tokens_, -1}).permute({2, 0, 1}).contiguous();
}

at::Tensor AdaptRelativePositionBias(const at::Tensor& loaded, Size2d window, int64_t heads, int64_t prefix_tokens) {
  if (loaded.dim() != 2 || loaded.size(1) != heads) return at::Tensor();
  const int64_t others = prefix_tokens > 0 ? 3 : 0, offsets = loaded.size(0) - others;
  const int64_t side = offsets > 0 ? std::llround(std::sqrt(static_cast<double>(offsets))) : 0;
  if (side % 2 == 0 || side * side != offsets) return at::Tensor();
  const at::Tensor map = loaded.narrow(0, 0, offsets).to(at::kFloat).t().reshape({1, heads, side, side});
  const at::Tensor resized =
      at::upsample_bicubic2d(map, {2 * window.height - 1, 2 * window.width - 1}, /*align_corners=*/false);
  const at::Tensor table = resized.flatten(2)[0].t().to(loaded.scalar_type());
  return others == 0 ? table.contiguous() : at::cat({table, loaded.narrow(0, offsets, others)});
}

}  // namespace graticule
