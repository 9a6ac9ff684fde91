// Draws where a positional label says that the patches come from.
#ifndef GRATICULE_TRAINER_CELLS_FIGURE_H_
#define GRATICULE_TRAINER_CELLS_FIGURE_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "data/color.h"
#include "data/image.h"
#include "nn/size2d.h"

namespace graticule {

// The colour of each cell of a grid: gold, rose, teal and blue in its corners, mixed between them.
Color CellColor(int64_t cell, Size2d grid);

// On the left the colours of the cells, and the accuracy over all patches. Then an image a column: with its grid, below
// it each patch in the colour of the cell that it says it comes from, crossed where that is wrong, and the image's
// accuracy. If all are right, the map is that of the colours.
//
// images: [B,3,H,W] uint8, B at least 1; predicted: [B,N] int64, the raster index of each patch's cell in the h×w grid
// (Task::PredictedCells), on any device.
Image DrawCells(const at::Tensor& images, Size2d grid, const at::Tensor& predicted);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_CELLS_FIGURE_H_
