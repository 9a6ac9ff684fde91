// The interface of the transforms: one step on the way from a decoded image to the model's input.
#ifndef GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_
#define GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_

#include "data/image.h"
#include "data/random.h"
#include "nn/token_map.h"

namespace graticule {

struct TransformContext {
  Size2d image_size;  // that the model wants; the default size of crops and resizes
};

class Transform {
 public:
  static constexpr char kKind[] = "transform";
  using Context = TransformContext;
  virtual ~Transform() = default;

  // In place; called from many threads at once. All randomness comes from `draws`.
  virtual void Apply(Image& image, Draws& draws) const = 0;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_TRANSFORM_H_
