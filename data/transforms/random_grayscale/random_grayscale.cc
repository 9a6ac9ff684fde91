#include "data/transforms/random_grayscale/random_grayscale.h"

#include "data/fields.h"
#include "data/transforms/colors.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> RandomGrayscaleTransform::Create(const RandomGrayscale& config,
                                                                            const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.1;
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<RandomGrayscaleTransform>(probability);
}

void RandomGrayscaleTransform::Apply(Image& image, Draws& draws) const {
  if (draws.Bernoulli(probability_)) ToGrey(image);
}

namespace {
const Registration<Transform, RandomGrayscale> kRegistration("Makes images grey, by chance", "probability: 0.2",
                                                             &RandomGrayscaleTransform::Create);
}  // namespace

}  // namespace graticule
