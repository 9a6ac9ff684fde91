#include "data/transforms/random_solarize/random_solarize.h"

#include "absl/strings/str_cat.h"
#include "data/fields.h"
#include "data/transforms/colors.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> RandomSolarizeTransform::Create(const RandomSolarize& config,
                                                                           const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.5;
  const int threshold = config.has_threshold() ? config.threshold() : 128;
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  if (threshold < 0 || threshold > 256) {
    errors.Add("threshold", absl::StrCat("must be in [0, 256], found ", threshold));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<RandomSolarizeTransform>(probability, threshold);
}

void RandomSolarizeTransform::Apply(Image& image, Draws& draws) const {
  if (draws.Bernoulli(probability_)) Solarize(image, threshold_);
}

namespace {
const Registration<Transform, RandomSolarize> kRegistration("Inverts all values from a threshold, by chance",
                                                            "probability: 0.2", &RandomSolarizeTransform::Create);
}  // namespace

}  // namespace graticule
