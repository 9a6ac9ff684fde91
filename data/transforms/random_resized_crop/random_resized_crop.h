// A resized window of random area and aspect ratio, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_RESIZED_CROP_RANDOM_RESIZED_CROP_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_RESIZED_CROP_RANDOM_RESIZED_CROP_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "data/fields.h"
#include "data/transforms/geometry.h"
#include "data/transforms/random_resized_crop/random_resized_crop.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

// The window of one image: ten draws, of which the first that fits counts; else the largest centred window whose
// aspect ratio lies in `ratio`.
Box DrawWindow(Size2d image, Range scale, Range ratio, Draws& draws);

class RandomResizedCropTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomResizedCrop& config,
                                                           const TransformContext& context);
  RandomResizedCropTransform(Size2d size, Range scale, Range ratio, Interpolation interpolation, bool antialias)
      : size_(size), scale_(scale), ratio_(ratio), interpolation_(interpolation), antialias_(antialias) {}

  void Apply(Image& image, Draws& draws) const override;
  std::optional<ResizedWindow> Window(Size2d image, Draws& draws) const override;

 private:
  Size2d size_;
  Range scale_;
  Range ratio_;
  Interpolation interpolation_;
  bool antialias_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_RESIZED_CROP_RANDOM_RESIZED_CROP_H_
