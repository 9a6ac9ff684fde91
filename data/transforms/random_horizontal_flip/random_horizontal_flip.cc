#include "data/transforms/random_horizontal_flip/random_horizontal_flip.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> RandomHorizontalFlipTransform::Create(const RandomHorizontalFlip& config,
                                                                                 const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.5;
  FieldErrors errors;
  if (!(probability >= 0 && probability <= 1)) {
    errors.Add("probability", absl::StrCat("must be in [0, 1], found ", probability));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<RandomHorizontalFlipTransform>(probability);
}

void RandomHorizontalFlipTransform::Apply(Image& image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return;
  const int64_t row = Image::kChannels * image.width;
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* left = image.pixels.data() + y * row;
    uint8_t* right = left + row - Image::kChannels;
    for (; left < right; left += Image::kChannels, right -= Image::kChannels) {
      std::swap_ranges(left, left + Image::kChannels, right);
    }
  }
}

namespace {
const Registration<Transform, RandomHorizontalFlip> kRegistration("Mirrors left and right, by chance",
                                                                  "probability: 0.5",
                                                                  &RandomHorizontalFlipTransform::Create);
}  // namespace

}  // namespace graticule
