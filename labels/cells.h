// Where patch tokens stand in the grid.
#ifndef GRATICULE_LABELS_CELLS_H_
#define GRATICULE_LABELS_CELLS_H_

#include "ATen/core/Tensor.h"
#include "nn/token_map.h"

namespace graticule {

// The raster index of each patch token's cell, int64: [1,N], or [B,V] under masking.
at::Tensor CellsOf(const TokenMap& map);

}  // namespace graticule

#endif  // GRATICULE_LABELS_CELLS_H_
