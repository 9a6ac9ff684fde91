// Change of hue with Pillow's meaning.
#ifndef GRATICULE_DATA_TRANSFORMS_HUE_H_
#define GRATICULE_DATA_TRANSFORMS_HUE_H_

#include "data/image.h"

namespace graticule {

// torchvision's adjust_hue of Pillow images: to HSV of 8 bits a channel, the hue turned by `factor` of the circle, -0.5
// to 0.5, and back.
void AdjustHue(Image& image, double factor);

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_HUE_H_
