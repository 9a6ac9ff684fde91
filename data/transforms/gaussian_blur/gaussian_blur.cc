#include "data/transforms/gaussian_blur/gaussian_blur.h"

#include "data/transforms/blur.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> GaussianBlurTransform::Create(const GaussianBlur& config,
                                                                         const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.1;
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  const Range radius = RangeFromField(config.radius(), "radius", {0.1, 2}, {0, kMaxBlurRadius}, errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<GaussianBlurTransform>(probability, radius);
}

void GaussianBlurTransform::Apply(Image& image, Draws& draws) const {
  if (draws.Bernoulli(probability_)) BlurGaussian(image, draws.Uniform(radius_.low, radius_.high));
}

namespace {
const Registration<Transform, GaussianBlur> kRegistration("Blurs by a Gaussian of random radius, by chance",
                                                          "probability: 0.5", &GaussianBlurTransform::Create);
}  // namespace

}  // namespace graticule
