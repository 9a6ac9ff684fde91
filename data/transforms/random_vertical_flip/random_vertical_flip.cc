#include "data/transforms/random_vertical_flip/random_vertical_flip.h"

#include <algorithm>

#include "data/fields.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> RandomVerticalFlipTransform::Create(const RandomVerticalFlip& config,
                                                                               const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.5;
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<RandomVerticalFlipTransform>(probability);
}

void RandomVerticalFlipTransform::Apply(Image& image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return;
  const int64_t row = Image::kChannels * image.width;
  uint8_t* top = image.pixels.data();
  uint8_t* bottom = top + (image.height - 1) * row;
  for (; top < bottom; top += row, bottom -= row) std::swap_ranges(top, top + row, bottom);
}

namespace {
const Registration<Transform, RandomVerticalFlip> kRegistration("Mirrors top and bottom, by chance", "probability: 0.5",
                                                                &RandomVerticalFlipTransform::Create);
}  // namespace

}  // namespace graticule
