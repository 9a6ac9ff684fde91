#include "labels/cells.h"

#include "ATen/ops/arange.h"

namespace graticule {

at::Tensor CellsOf(const TokenMap& map) {
  if (map.kept.defined()) return map.kept;
  return at::arange(map.grid.area(), map.tokens.options().dtype(at::kLong)).unsqueeze(0);
}

}  // namespace graticule
