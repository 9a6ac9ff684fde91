// Mirroring top and bottom, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_VERTICAL_FLIP_RANDOM_VERTICAL_FLIP_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_VERTICAL_FLIP_RANDOM_VERTICAL_FLIP_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/random_vertical_flip/random_vertical_flip.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class RandomVerticalFlipTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomVerticalFlip& config,
                                                           const TransformContext& context);
  explicit RandomVerticalFlipTransform(double probability) : probability_(probability) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  double probability_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_VERTICAL_FLIP_RANDOM_VERTICAL_FLIP_H_
