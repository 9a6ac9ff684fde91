#include "data/transforms/random_horizontal_flip/random_horizontal_flip.h"

#include <cstring>

#include "data/fields.h"
#include "data/transforms/clones.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using Bytes = uint8_t __attribute__((vector_size(16)));

// Writes the pixels of `from` [3·width, and a byte that is not used] to `to` in reverse.
GRATICULE_CLONES void Reverse(const uint8_t* from, int64_t width, uint8_t* to) {
  int64_t x = 0;
  // Five pixels at a time; the sixteenth byte is overwritten by the next ones.
  for (; x + 6 <= width; x += 5) {
    Bytes bytes;
    std::memcpy(&bytes, from + 3 * (width - 5 - x), sizeof(bytes));
    bytes = __builtin_shufflevector(bytes, bytes, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2, 15);
    std::memcpy(to + 3 * x, &bytes, sizeof(bytes));
  }
  for (; x < width; ++x) std::memcpy(to + 3 * x, from + 3 * (width - 1 - x), 3);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transform>> RandomHorizontalFlipTransform::Create(const RandomHorizontalFlip& config,
                                                                                 const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.5;
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<RandomHorizontalFlipTransform>(probability);
}

void RandomHorizontalFlipTransform::Apply(Image& image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return;
  const int64_t row = Image::kChannels * image.width;
  Pixels copy(row + 1, 0);
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* const pixels = image.pixels.data() + y * row;
    std::memcpy(copy.data(), pixels, row);
    Reverse(copy.data(), image.width, pixels);
  }
}

namespace {
const Registration<Transform, RandomHorizontalFlip> kRegistration("Mirrors left and right, by chance",
                                                                  "probability: 0.5",
                                                                  &RandomHorizontalFlipTransform::Create);
}  // namespace

}  // namespace graticule
