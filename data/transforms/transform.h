// The interface of the transforms: one step on the way from a decoded image to the model's input.
#ifndef GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_
#define GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_

#include <optional>
#include <string>

#include "data/image.h"
#include "data/random.h"
#include "data/statistics.h"
#include "data/transforms/interpolation.pb.h"
#include "nn/size2d.h"

namespace graticule {

struct TransformContext {
  Size2d image_size;             // that the model wants, positive; the default size of crops and resizes
  ChannelStatistics statistics;  // by which the images will be normalised: "mean colour" means its mean
};

// How images come to a model in evaluation, in the numbers by which timm describes it.
struct Preprocessing {
  double crop_pct = 1;  // the share of a resized image's sides that the crop after it keeps
  std::string interpolation = "bicubic";
  std::string crop_mode = "center";  // or "squash", where the aspect ratio is given up before the crop
};

// A window of an image, to be resized.
struct ResizedWindow {
  Box window;  // inside of the image
  Size2d size;
  Interpolation interpolation = INTERPOLATION_UNSPECIFIED;  // never RANDOM
  bool antialias = true;
};

class Transform {
 public:
  static constexpr char kKind[] = "transform";
  using Context = TransformContext;
  virtual ~Transform() = default;

  // In place; called from many threads at once. All randomness comes from `draws`.
  virtual void Apply(Image& image, Draws& draws) const = 0;
  // Of a transform that only cuts a window out of an image and resizes it: which one of an image of this size, by the
  // draws that Apply() would make; nothing, and then no draws, where it is more than that. Apply() does the same as
  // ApplyWindow() (geometry.h) of it. The loader asks the first transform, so that no more than the window is decoded.
  virtual std::optional<ResizedWindow> Window(Size2d image, Draws& draws) const { return std::nullopt; }
  // Enters itself into such a description, where it has a place there.
  virtual void Describe(Preprocessing& preprocessing) const {}
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_
