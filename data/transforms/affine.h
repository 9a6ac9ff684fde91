// Shears, shifts and rotations with Pillow's results.
#ifndef GRATICULE_DATA_TRANSFORMS_AFFINE_H_
#define GRATICULE_DATA_TRANSFORMS_AFFINE_H_

#include <array>

#include "data/color.h"
#include "data/image.h"
#include "data/transforms/interpolation.pb.h"
#include "nn/size2d.h"

namespace graticule {

// Where the point (x, y) of a result lies in its source: (m0 x + m1 y + m2, m3 x + m4 y + m5), in pixels from the upper
// left corner, so that pixels' middles are at halves.
using AffineMatrix = std::array<double, 6>;

// Counter-clockwise about the middle of an image.
AffineMatrix Rotation(Size2d image, double degrees);

// Pillow's Image.transform(size, AFFINE, matrix, interpolation, fillcolor=fill) at the image's own size: pixels whose
// middle lies outside of the source become `fill`, taps outside repeat the source's edge, cubic weights have a = -1 and
// results are truncated. The same pixels are filled; others differ by one level at most, where rounding passes a whole
// number. `interpolation` is not RANDOM.
void ApplyAffine(Image& image, const AffineMatrix& matrix, Interpolation interpolation, const Color& fill);

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_AFFINE_H_
