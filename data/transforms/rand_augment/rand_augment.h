// A few operations of one magnitude, drawn from a set.
#ifndef GRATICULE_DATA_TRANSFORMS_RAND_AUGMENT_RAND_AUGMENT_H_
#define GRATICULE_DATA_TRANSFORMS_RAND_AUGMENT_RAND_AUGMENT_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/transforms/augmentation.h"
#include "data/transforms/rand_augment/rand_augment.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

struct RandAugmentPolicy {
  std::vector<std::string> operations;
  // One for each operation, and then none is drawn twice for an image; empty: all alike, with replacement.
  std::vector<double> weights;
  int operations_per_image = 2;
  double probability = 0.5;
  double magnitude = 10;
  double magnitude_deviation = 0;
  double max_magnitude = 10;
};

// Of a string such as "rand-m9-mstd0.5-inc1", whose mistakes go to `errors`.
RandAugmentPolicy ParseRandAugment(std::string_view policy, FieldErrors& errors);

// The operations of one image, in order, as indices into the policy's.
std::vector<int> DrawOperations(const RandAugmentPolicy& policy, Draws& draws);

class RandAugmentTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandAugment& config, const TransformContext& context);
  RandAugmentTransform(RandAugmentPolicy policy, const AugmentationSettings& settings);

  void Apply(Image& image, Draws& draws) const override;

 private:
  RandAugmentPolicy policy_;
  std::vector<Augmentation> augmentations_;
  AugmentationSettings settings_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RAND_AUGMENT_RAND_AUGMENT_H_
