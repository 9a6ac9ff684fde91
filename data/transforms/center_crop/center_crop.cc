#include "data/transforms/center_crop/center_crop.h"

#include "data/transforms/geometry.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

// Offset of the crop, as torchvision computes it: of what is missing half comes first, rounded down; of what is too
// much the half is rounded as Python rounds.
int64_t Offset(int64_t image, int64_t crop) {
  if (image < crop) return -((crop - image) / 2);
  return RoundHalfToEven(static_cast<double>(image - crop) / 2);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transform>> CenterCropTransform::Create(const CenterCrop& config,
                                                                       const TransformContext& context) {
  FieldErrors errors;
  const Size2d size = SizeFromField(config.size(), "size", context.image_size, errors);
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<CenterCropTransform>(size);
}

Box CenterCropTransform::Middle(Size2d image) const {
  return {Offset(image.height, size_.height), Offset(image.width, size_.width), size_};
}

void CenterCropTransform::Apply(Image& image, Draws& draws) const {
  if (image.size() != size_) image = Crop(image, Middle(image.size()));
}

std::optional<ResizedWindow> CenterCropTransform::Window(Size2d image, Draws& draws) const {
  if (image.height < size_.height || image.width < size_.width) return std::nullopt;
  return ResizedWindow{Middle(image), size_};
}

namespace {
const Registration<Transform, CenterCrop> kRegistration("Cuts the middle out, padding with black where it must",
                                                        "size: 8", &CenterCropTransform::Create);
}  // namespace

}  // namespace graticule
