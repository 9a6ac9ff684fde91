// One of a learned policy's sequences of operations.
#ifndef GRATICULE_DATA_TRANSFORMS_AUTO_AUGMENT_AUTO_AUGMENT_H_
#define GRATICULE_DATA_TRANSFORMS_AUTO_AUGMENT_AUTO_AUGMENT_H_

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/transforms/augmentation.h"
#include "data/transforms/auto_augment/auto_augment.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

struct AutoAugmentPolicy {
  // Each image gets one of these, all alike.
  std::vector<std::vector<Augmentation>> sequences;
  double magnitude_deviation = 0;
};

// Of a string such as "original-mstd0.5", whose mistakes go to `errors`.
AutoAugmentPolicy ParseAutoAugment(std::string_view policy, FieldErrors& errors);

class AutoAugmentTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const AutoAugment& config, const TransformContext& context);
  AutoAugmentTransform(std::vector<std::vector<Augmentation>> sequences, const AugmentationSettings& settings)
      : sequences_(std::move(sequences)), settings_(settings) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  std::vector<std::vector<Augmentation>> sequences_;
  AugmentationSettings settings_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_AUTO_AUGMENT_AUTO_AUGMENT_H_
