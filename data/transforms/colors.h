// Operations on the colours of an image, each with Pillow's meaning, so that its results and timm's are the same.
#ifndef GRATICULE_DATA_TRANSFORMS_COLORS_H_
#define GRATICULE_DATA_TRANSFORMS_COLORS_H_

#include <cstdint>

#include "data/image.h"

namespace graticule {

// ImageEnhance.Brightness, Contrast, Color and Sharpness: factor 1 leaves the image, 0 takes all of it away (black, the
// mean grey, greys, a blurred image), more than 1 exaggerates. Results are truncated and clipped as Pillow's blend
// does.
void AdjustBrightness(Image& image, double factor);
void AdjustContrast(Image& image, double factor);
void AdjustSaturation(Image& image, double factor);
void AdjustSharpness(Image& image, double factor);

// ImageOps.grayscale, in all three channels: (19595 R + 38470 G + 7471 B + 2^15) >> 16.
void ToGrey(Image& image);
// ImageOps.invert, solarize (values from `threshold` are inverted), posterize (keeps the upper `bits`, 0 to 8),
// autocontrast and equalize, each channel for itself. SolarizeAdd is EfficientNet's: values below `threshold` (0 to
// 256) grow by `addition` (0 to 255), to 255 at most.
void Invert(Image& image);
void Solarize(Image& image, int threshold);
void SolarizeAdd(Image& image, int addition, int threshold);
void Posterize(Image& image, int bits);
void AutoContrast(Image& image);
void Equalize(Image& image);

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_COLORS_H_
