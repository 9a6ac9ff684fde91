// The interface of the transforms: one step on the way from a decoded image to the model's input.
#ifndef GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_
#define GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_

#include <string>

#include "data/image.h"
#include "data/random.h"
#include "nn/token_map.h"

namespace graticule {

struct TransformContext {
  Size2d image_size;  // that the model wants; the default size of crops and resizes
};

// How images come to a model in evaluation, in the numbers by which timm describes it.
struct Preprocessing {
  double crop_pct = 1;  // the share of a resized image's sides that the crop after it keeps
  std::string interpolation = "bicubic";
};

class Transform {
 public:
  static constexpr char kKind[] = "transform";
  using Context = TransformContext;
  virtual ~Transform() = default;

  // In place; called from many threads at once. All randomness comes from `draws`.
  virtual void Apply(Image& image, Draws& draws) const = 0;
  // Enters itself into such a description, where it has a place there.
  virtual void Describe(Preprocessing& preprocessing) const {}
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_
