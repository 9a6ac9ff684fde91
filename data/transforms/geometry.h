// What the transforms that cut and resample have in common.
#ifndef GRATICULE_DATA_TRANSFORMS_GEOMETRY_H_
#define GRATICULE_DATA_TRANSFORMS_GEOMETRY_H_

#include <cstdint>
#include <string_view>

#include "data/image.h"
#include "data/random.h"
#include "data/transforms/interpolation.pb.h"
#include "data/transforms/transform.h"
#include "google/protobuf/repeated_field.h"
#include "nn/size2d.h"
#include "plugin/status.h"

namespace graticule {

// Of the result of a crop or a resize, lest a thin image that a resize makes to cover a square takes all memory.
inline constexpr int64_t kMaxResultPixels = int64_t{1} << 26;

// The pixels of `box`, black where it reaches out of the image.
Image Crop(const Image& image, const Box& box);

// `box` of the image, inside of it, at another size, both positive: LibTorch's resampling of 8-bit pixels, which is
// torchvision's. Throws c10::Error where the result would pass kMaxResultPixels.
Image ResizedCrop(const Image& image, const Box& box, Size2d size, Interpolation interpolation, bool antialias = true);

// The image becomes its window, resized.
void ApplyWindow(const ResizedWindow& window, Image& image);

// The size at which an image, its aspect ratio kept, just covers `target`: one side equals the target's, the other is
// at least as long (rounded down).
Size2d CoveringSize(Size2d image, Size2d target);

// `interpolation`, or where that is RANDOM one of its two.
Interpolation DrawInterpolation(Interpolation interpolation, Draws& draws);

// Python's round(): halves to even.
int64_t RoundHalfToEven(double x);

// A box of this size, no larger than the image, at a random place inside of it.
Box DrawBox(Size2d image, Size2d size, Draws& draws);

// A height and a width, or one number for a square, from a config's repeated field; `otherwise` where it is empty. Adds
// to `errors` where the field is neither, or more than kMaxResultPixels.
Size2d SizeFromField(const google::protobuf::RepeatedField<int32_t>& field, std::string_view path, Size2d otherwise,
                     FieldErrors& errors);

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_GEOMETRY_H_
