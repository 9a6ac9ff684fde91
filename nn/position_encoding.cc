#include "nn/position_encoding.h"

#include <cmath>

#include "ATen/ops/_upsample_bicubic2d_aa.h"
#include "ATen/ops/cat.h"
#include "nn/module.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

constexpr double kTemperature = 10000;
// Entry (patch at row y and column x, channel i) of the 2-D tables.
double Sinusoid2d(PositionEncoding::Kind kind, int64_t y, int64_t x, int64_t i, int64_t width) {
  const int64_t quarter = width / 4;
  if (kind == PositionEncoding::SINUSOID_2D_BLOCKS) {
    const int64_t block = i / quarter;
    const double angle = (block % 2 == 0 ? y : x) / std::pow(kTemperature, static_cast<double>(i % quarter) / quarter);
    return block < 2 ? std::sin(angle) : std::cos(angle);
  }
  const int64_t channel = i % (2 * quarter);
  const double angle = (i < 2 * quarter ? x : y) / std::pow(kTemperature, static_cast<double>(channel / 2) / quarter);
  return channel % 2 == 0 ? std::sin(angle) : std::cos(angle);
}

double Sinusoid1d(int64_t position, int64_t i, int64_t width) {
  const double angle = position / std::pow(kTemperature, static_cast<double>(i / 2 * 2) / width);
  return i % 2 == 0 ? std::sin(angle) : std::cos(angle);
}

// Side of the square of `area`, 0 if there is none.
int64_t SquareSide(int64_t area) {
  const int64_t side = std::llround(std::sqrt(static_cast<double>(area)));
  return side * side == area ? side : 0;
}

}  // namespace

int64_t WidthMultiple(PositionEncoding::Kind kind) {
  switch (kind) {
    case PositionEncoding::SINUSOID_2D:
    case PositionEncoding::SINUSOID_2D_BLOCKS:
      return 4;
    case PositionEncoding::SINUSOID_1D:
      return 2;
    default:
      return 1;
  }
}

bool IsTrained(PositionEncoding::Kind kind) {
  return kind == PositionEncoding::LEARNED || kind == PositionEncoding::KIND_UNSPECIFIED;
}

at::Tensor NewPositionTable(PositionEncoding::Kind kind, Size2d grid, int64_t prefix_tokens, int64_t width,
                            double std) {
  if (kind == PositionEncoding::NONE) return at::Tensor();
  CHECK_EQ(width % WidthMultiple(kind), 0);
  at::Tensor table = NewParameter({1, prefix_tokens + grid.area(), width});
  if (IsTrained(kind)) return init::TruncNormal(table, std);
  if (table.is_meta()) return table;
  auto entries = table.accessor<float, 3>();
  for (int64_t t = 0; t < table.size(1); ++t) {
    const int64_t patch = t - prefix_tokens;
    for (int64_t i = 0; i < width; ++i) {
      if (kind == PositionEncoding::SINUSOID_1D) {
        entries[0][t][i] = Sinusoid1d(t, i, width);
      } else {
        entries[0][t][i] = patch < 0 ? 0 : Sinusoid2d(kind, patch / grid.width, patch % grid.width, i, width);
      }
    }
  }
  return table;
}

at::Tensor ResizePositionTable(const at::Tensor& table, int64_t prefix_tokens, Size2d from, Size2d to) {
  CHECK_EQ(table.size(1), prefix_tokens + from.area());
  if (from == to) return table;
  const int64_t width = table.size(2);
  const at::Tensor prefix = table.narrow(1, 0, prefix_tokens);
  at::Tensor map = table.narrow(1, prefix_tokens, from.area())
                       .to(at::kFloat)
                       .reshape({1, from.height, from.width, width})
                       .permute({0, 3, 1, 2});
  map = at::_upsample_bicubic2d_aa(map, {to.height, to.width}, /*align_corners=*/false);
  const at::Tensor rows = map.permute({0, 2, 3, 1}).reshape({1, to.area(), width}).to(table.scalar_type());
  return at::cat({prefix, rows}, 1);
}

at::Tensor AdaptPositionTable(const at::Tensor& loaded, int64_t prefix_tokens, Size2d to, int64_t width) {
  if (loaded.dim() != 3 || loaded.size(0) != 1 || loaded.size(2) != width) return at::Tensor();
  const auto adapt = [&](int64_t prefix, Size2d from) {
    const at::Tensor rows =
        prefix < prefix_tokens ? loaded.new_zeros({1, prefix_tokens, width}) : loaded.narrow(1, 0, prefix_tokens);
    const at::Tensor kept =
        prefix == prefix_tokens ? loaded : at::cat({rows, loaded.narrow(1, prefix, from.area())}, 1);
    return ResizePositionTable(kept, prefix_tokens, from, to);
  };
  // A class token too many is likelier than a square grid that happens to have as many rows; a distillation token
  // isn't.
  for (int64_t prefix = prefix_tokens; prefix <= 1; ++prefix) {
    if (loaded.size(1) - prefix == to.area()) return adapt(prefix, to);
  }
  for (int64_t prefix = prefix_tokens; prefix <= 2; ++prefix) {
    const int64_t side = loaded.size(1) > prefix ? SquareSide(loaded.size(1) - prefix) : 0;
    if (side > 0) return adapt(prefix, {side, side});
  }
  if (loaded.size(1) == to.area()) return adapt(0, to);
  if (const int64_t side = SquareSide(loaded.size(1)); side > 0) return adapt(0, {side, side});
  return at::Tensor();
}

}  // namespace graticule
