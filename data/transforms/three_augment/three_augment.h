// DeiT III's 3-Augment, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_THREE_AUGMENT_THREE_AUGMENT_H_
#define GRATICULE_DATA_TRANSFORMS_THREE_AUGMENT_THREE_AUGMENT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/three_augment/three_augment.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class ThreeAugmentTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const ThreeAugment& config, const TransformContext& context);
  explicit ThreeAugmentTransform(double probability) : probability_(probability) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  double probability_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_THREE_AUGMENT_THREE_AUGMENT_H_
