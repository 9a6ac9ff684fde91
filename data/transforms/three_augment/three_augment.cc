#include "data/transforms/three_augment/three_augment.h"

#include "data/fields.h"
#include "data/transforms/blur.h"
#include "data/transforms/colors.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> ThreeAugmentTransform::Create(const ThreeAugment& config,
                                                                         const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 1;
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<ThreeAugmentTransform>(probability);
}

void ThreeAugmentTransform::Apply(Image& image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return;
  switch (draws.Below(3)) {
    case 0:
      return ToGrey(image);
    case 1:
      return Solarize(image, 128);
    default:
      return BlurGaussian(image, draws.Uniform(0.1, 2));
  }
}

namespace {
const Registration<Transform, ThreeAugment> kRegistration("Greyscale, solarization or blur, one of them (DeiT III)",
                                                          "probability: 1", &ThreeAugmentTransform::Create);
}  // namespace

}  // namespace graticule
