// Gaussian blur with Pillow's meaning.
#ifndef GRATICULE_DATA_TRANSFORMS_BLUR_H_
#define GRATICULE_DATA_TRANSFORMS_BLUR_H_

#include "data/image.h"

namespace graticule {

// Filters much longer would pass the 16 bits of their sums.
inline constexpr double kMaxBlurRadius = 100;

// ImageFilter.GaussianBlur: a Gaussian of standard deviation `radius` pixels, 0 to kMaxBlurRadius, as three extended
// box filters along the rows and three along the columns (Gwosdek et al. 2011, "Theoretical Foundations of Gaussian
// Convolution by Extended Box Filtering"), each rounded to 8 bits. What lies outside is the nearest pixel.
void BlurGaussian(Image& image, double radius);

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_BLUR_H_
