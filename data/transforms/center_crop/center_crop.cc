#include "data/transforms/center_crop/center_crop.h"

#include <algorithm>
#include <cmath>

#include "data/transforms/geometry.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

// Offset of the crop; a half is rounded to even, as Python's round() does.
int64_t Offset(int64_t image, int64_t crop) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(image - crop) / 2));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transform>> CenterCropTransform::Create(const CenterCrop& config,
                                                                       const TransformContext& context) {
  FieldErrors errors;
  const Size2d size = SizeFromField(config.size(), "size", context.image_size, errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<CenterCropTransform>(size);
}

void CenterCropTransform::Apply(Image& image, Draws& draws) const {
  const int64_t rows = std::max<int64_t>(0, size_.height - image.height);
  const int64_t columns = std::max<int64_t>(0, size_.width - image.width);
  if (rows + columns > 0) image = Pad(image, rows / 2, rows - rows / 2, columns / 2, columns - columns / 2);
  if (Size2d{image.height, image.width} == size_) return;
  image = Crop(image, {Offset(image.height, size_.height), Offset(image.width, size_.width), size_});
}

namespace {
const Registration<Transform, CenterCrop> kRegistration("Cuts the middle out, padding with black where it must",
                                                        "size: 8", &CenterCropTransform::Create);
}  // namespace

}  // namespace graticule
