// Mirroring, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_HORIZONTAL_FLIP_RANDOM_HORIZONTAL_FLIP_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_HORIZONTAL_FLIP_RANDOM_HORIZONTAL_FLIP_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/random_horizontal_flip/random_horizontal_flip.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class RandomHorizontalFlipTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomHorizontalFlip& config,
                                                           const TransformContext& context);
  explicit RandomHorizontalFlipTransform(double probability) : probability_(probability) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  double probability_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_HORIZONTAL_FLIP_RANDOM_HORIZONTAL_FLIP_H_
