// Draws what a training batch holds.
#ifndef GRATICULE_APP_BATCH_FIGURE_H_
#define GRATICULE_APP_BATCH_FIGURE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/image.h"
#include "nn/size2d.h"

namespace graticule {

// The first images of a loader's batch, enlarged by a whole factor to about 224 pixels, in rows under their labels: the
// class, or where images are mixed the two classes of the greatest shares with these. Beside them, where the model has
// a `grid` of patches, the first image once more with each patch's absolute positional label, its raster index.
Image DrawBatch(const Batch& batch, int64_t images, const std::vector<std::string>& class_names,
                std::optional<Size2d> grid);

}  // namespace graticule

#endif  // GRATICULE_APP_BATCH_FIGURE_H_
