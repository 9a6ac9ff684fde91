#include "data/transforms/resize/resize.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "data/transforms/geometry.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr double kMinCropPct = 0.01;

}  // namespace

absl::StatusOr<std::unique_ptr<Transform>> ResizeTransform::Create(const Resize& config,
                                                                   const TransformContext& context) {
  FieldErrors errors;
  double crop_pct = config.has_crop_pct() ? config.crop_pct() : 0.875;
  if (!(crop_pct >= kMinCropPct && crop_pct <= 1)) {
    errors.Add("crop_pct", absl::StrCat("must be in [", kMinCropPct, ", 1], found ", crop_pct));
    crop_pct = 1;
  }
  if (config.has_crop_pct() && config.size_size() > 0) {
    errors.Add("crop_pct", "has no effect beside size; give one of them");
  }
  if (config.interpolation() == RANDOM) {
    errors.Add("interpolation", "RANDOM is for RandomResizedCrop: a resize that draws nothing is BILINEAR or BICUBIC");
  }
  const auto grown = [crop_pct](int64_t side) { return static_cast<int64_t>(std::floor(side / crop_pct)); };
  const Size2d target =
      SizeFromField(config.size(), "size", {grown(context.image_size.height), grown(context.image_size.width)}, errors);
  // Not the area, which may be no int64_t.
  if (target.height > kMaxResultPixels / target.width) {
    errors.Add("crop_pct", absl::StrCat("asks for ", target.height, "x", target.width, ", more than ", kMaxResultPixels,
                                        " pixels"));
  }
  if (!errors.empty()) return errors.ToStatus();
  const double share = config.size_size() > 0
                           ? static_cast<double>(context.image_size.height) / static_cast<double>(target.height)
                           : crop_pct;
  return std::unique_ptr<Transform>(new ResizeTransform(target, share, config));
}

void ResizeTransform::Describe(Preprocessing& preprocessing) const {
  preprocessing.crop_pct = crop_pct_;
  preprocessing.interpolation = interpolation_ == BILINEAR ? "bilinear" : "bicubic";
  preprocessing.crop_mode = squash_ ? "squash" : "center";
}

void ResizeTransform::Apply(Image& image, Draws& draws) const { ApplyWindow(*Window(image.size(), draws), image); }

std::optional<ResizedWindow> ResizeTransform::Window(Size2d image, Draws& draws) const {
  return ResizedWindow{{0, 0, image}, squash_ ? target_ : CoveringSize(image, target_), interpolation_, antialias_};
}

namespace {
const Registration<Transform, Resize> kRegistration(
    "Resizes to cover image_size / crop_pct, aspect ratio kept (torchvision's and timm's evaluation)",
    "crop_pct: 0.875", &ResizeTransform::Create);
}  // namespace

}  // namespace graticule
