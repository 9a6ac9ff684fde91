#include "data/transforms/random_crop/random_crop.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "data/transforms/geometry.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Transform>> RandomCropTransform::Create(const RandomCrop& config,
                                                                       const TransformContext& context) {
  FieldErrors errors;
  const Size2d size = SizeFromField(config.size(), "size", context.image_size, errors);
  if (config.padding() < 0) errors.Add("padding", absl::StrCat("must not be negative, found ", config.padding()));
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<RandomCropTransform>(size, config.padding());
}

void RandomCropTransform::Apply(Image& image, Draws& draws) const {
  // Of the padding, all of which is black.
  const int64_t rows = std::max(2 * padding_, size_.height - image.height);
  const int64_t columns = std::max(2 * padding_, size_.width - image.width);
  const int64_t top = draws.Below(image.height + rows - size_.height + 1) - rows / 2;
  const int64_t left = draws.Below(image.width + columns - size_.width + 1) - columns / 2;
  image = Crop(image, {top, left, size_});
}

namespace {
const Registration<Transform, RandomCrop> kRegistration("Pads with black and cuts a window at random", "padding: 4",
                                                        &RandomCropTransform::Create);
}  // namespace

}  // namespace graticule
