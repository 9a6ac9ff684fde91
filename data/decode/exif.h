// The EXIF orientation of photos, and pictures turned by it.
#ifndef GRATICULE_DATA_DECODE_EXIF_H_
#define GRATICULE_DATA_DECODE_EXIF_H_

#include <string_view>

#include "data/image.h"

namespace graticule {

// How the pixels of a JPEG, PNG or WebP file are stored, by the tag Orientation of its EXIF data (CIPA DC-008, 4.6.4):
// 1 upright, 2 to 8 turned or mirrored, transposed from 5 on. What the file does not say, or says wrongly, is 1.
int ExifOrientation(std::string_view file);

// What an image and a box in it become when an image stored with this orientation is put upright, and where in the
// stored image of that size a box of the upright one lies.
Size2d Upright(Size2d stored, int orientation);
Box Upright(const Box& stored, Size2d size, int orientation);
Box Stored(const Box& upright, Size2d size, int orientation);
Image Upright(Image stored, int orientation);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_EXIF_H_
