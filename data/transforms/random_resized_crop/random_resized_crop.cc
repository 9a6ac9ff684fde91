#include "data/transforms/random_resized_crop/random_resized_crop.h"

#include <algorithm>
#include <cmath>

#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int kTries = 10;
// Far beyond any use, and near enough that sides stay numbers of pixels.
constexpr Range kScales{1e-4, 1}, kRatios{1e-3, 1e3};

// At least one pixel: of a very thin image torchvision would ask for none.
int64_t RoundedSide(double x, int64_t longest) { return std::clamp<int64_t>(RoundHalfToEven(x), 1, longest); }

}  // namespace

Box DrawWindow(Size2d image, Range scale, Range ratio, Draws& draws) {
  for (int i = 0; i < kTries; ++i) {
    const double area = static_cast<double>(image.area()) * draws.Uniform(scale.low, scale.high);
    const double aspect = std::exp(draws.Uniform(std::log(ratio.low), std::log(ratio.high)));
    const Size2d size{RoundHalfToEven(std::sqrt(area / aspect)), RoundHalfToEven(std::sqrt(area * aspect))};
    if (size.height < 1 || size.height > image.height || size.width < 1 || size.width > image.width) continue;
    return DrawBox(image, size, draws);
  }
  Size2d size = image;
  const double aspect = static_cast<double>(image.width) / static_cast<double>(image.height);
  if (aspect < ratio.low) size.height = RoundedSide(static_cast<double>(image.width) / ratio.low, image.height);
  if (aspect > ratio.high) size.width = RoundedSide(static_cast<double>(image.height) * ratio.high, image.width);
  return {(image.height - size.height) / 2, (image.width - size.width) / 2, size};
}

absl::StatusOr<std::unique_ptr<Transform>> RandomResizedCropTransform::Create(const RandomResizedCrop& config,
                                                                              const TransformContext& context) {
  FieldErrors errors;
  const Size2d size = SizeFromField(config.size(), "size", context.image_size, errors);
  const Range scale = RangeFromField(config.scale(), "scale", {0.08, 1}, kScales, errors);
  const Range ratio = RangeFromField(config.ratio(), "ratio", {3.0 / 4, 4.0 / 3}, kRatios, errors);
  if (!errors.empty()) return errors.ToStatus();
  const bool antialias = !config.has_antialias() || config.antialias();
  return std::make_unique<RandomResizedCropTransform>(size, scale, ratio, config.interpolation(), antialias);
}

void RandomResizedCropTransform::Apply(Image& image, Draws& draws) const {
  ApplyWindow(*Window(image.size(), draws), image);
}

std::optional<ResizedWindow> RandomResizedCropTransform::Window(Size2d image, Draws& draws) const {
  const Box window = DrawWindow(image, scale_, ratio_, draws);
  return ResizedWindow{window, size_, DrawInterpolation(interpolation_, draws), antialias_};
}

namespace {
const Registration<Transform, RandomResizedCrop> kRegistration(
    "Cuts a window of random area and aspect ratio and resizes it", "scale: [0.08, 1]",
    &RandomResizedCropTransform::Create);
}  // namespace

}  // namespace graticule
