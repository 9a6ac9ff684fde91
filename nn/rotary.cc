#include "nn/rotary.h"

#include <cmath>

#include "ATen/ops/cat.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

// temperature^(-4i/d) for i below d/4.
at::Tensor Magnitudes(int64_t head_width, double temperature) {
  at::Tensor magnitudes = at::zeros({head_width / 4});
  for (int64_t i = 0; i < head_width / 4; ++i) {
    magnitudes[i] = std::pow(temperature, -4.0 * i / static_cast<double>(head_width));
  }
  return magnitudes;
}

// Column and row of each token [2,T,1].
at::Tensor Places(Size2d grid, int64_t prefix_tokens) {
  at::Tensor places = at::zeros({2, prefix_tokens + grid.area(), 1});
  auto entries = places.accessor<float, 3>();
  for (int64_t patch = 0; patch < grid.area(); ++patch) {
    entries[0][prefix_tokens + patch][0] = patch % grid.width;
    entries[1][prefix_tokens + patch][0] = patch / grid.width;
  }
  return places;
}

// x [B,H,T,d] with each pair of neighbouring channels turned by its angle.
at::Tensor Turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const at::Tensor pairs = x.to(at::kFloat).unflatten(-1, {-1, 2});
  const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  return at::stack({a.mul(cos).sub(b.mul(sin)), a.mul(sin).add(b.mul(cos))}, -1).flatten(-2).to(x.scalar_type());
}

}  // namespace

at::Tensor NewRotaryFrequencies(int64_t depth, int64_t heads, int64_t head_width, double temperature) {
  at::Tensor frequencies = NewParameter({2, depth, heads, head_width / 2});
  if (frequencies.is_meta()) return frequencies;
  const at::Tensor magnitudes = Magnitudes(head_width, temperature);
  const at::Tensor angle = at::rand({depth, heads, 1}).mul(2 * M_PI);
  const at::Tensor cos = angle.cos().mul(magnitudes), sin = angle.sin().mul(magnitudes);
  // The second half of the pairs is a quarter turn ahead of the first.
  return frequencies.copy_(at::stack({at::cat({cos, sin.neg()}, -1), at::cat({sin, cos}, -1)}));
}

RotaryEncoding::RotaryEncoding(Size2d grid, int64_t prefix_tokens, int64_t head_width, double temperature) {
  CHECK_EQ(head_width % 4, 0);
  const at::Tensor angles =
      Places(grid, prefix_tokens).mul(Magnitudes(head_width, temperature)).transpose(0, 1).flatten(1).contiguous();
  cos_ = RegisterConstant(angles.cos());
  sin_ = RegisterConstant(angles.sin());
}

RotaryEncoding::RotaryEncoding(Size2d grid, int64_t prefix_tokens, const at::Tensor& frequencies, int64_t layer)
    : places_(RegisterConstant(Places(grid, prefix_tokens))), frequencies_(frequencies), layer_(layer) {}

void RotaryEncoding::Rotate(at::Tensor& q, at::Tensor& k) const {
  at::Tensor cos = cos_, sin = sin_;
  if (frequencies_.defined()) {
    const at::Tensor f = frequencies_.select(1, layer_).unsqueeze(2);          // [2,H,1,d/2]
    const at::Tensor angles = places_[0].mul(f[0]).add(places_[1].mul(f[1]));  // [H,T,d/2]
    cos = angles.cos();
    sin = angles.sin();
  }
  q = Turn(q, cos, sin);
  k = Turn(k, cos, sin);
}

}  // namespace graticule
