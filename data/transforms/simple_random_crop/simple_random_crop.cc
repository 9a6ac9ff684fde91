#include "data/transforms/simple_random_crop/simple_random_crop.h"

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/transforms/geometry.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int kMaxPadding = 1024;

// Where position i of the endless row … 2 1 0 1 2 … n-2 n-1 n-2 … comes from.
int64_t Reflected(int64_t i, int64_t n) {
  if (n == 1) return 0;
  const int64_t period = 2 * (n - 1);
  const int64_t phase = (i % period + period) % period;
  return phase < n ? phase : period - phase;
}

}  // namespace

Image ReflectedCrop(const Image& image, const Box& box) {
  constexpr int64_t kPixel = Image::kChannels;
  Image result{box.size.height, box.size.width, Pixels(kPixel * box.size.area())};
  std::vector<int64_t> columns(box.size.width);
  for (int64_t x = 0; x < box.size.width; ++x) columns[x] = kPixel * Reflected(box.left + x, image.width);
  uint8_t* to = result.pixels.data();
  for (int64_t y = 0; y < box.size.height; ++y) {
    const uint8_t* const row = image.pixels.data() + kPixel * image.width * Reflected(box.top + y, image.height);
    for (const int64_t column : columns) {
      std::memcpy(to, row + column, kPixel);
      to += kPixel;
    }
  }
  return result;
}

absl::StatusOr<std::unique_ptr<Transform>> SimpleRandomCropTransform::Create(const SimpleRandomCrop& config,
                                                                             const TransformContext& context) {
  FieldErrors errors;
  const Size2d size = SizeFromField(config.size(), "size", context.image_size, errors);
  const int padding = config.has_padding() ? config.padding() : 4;
  if (padding < 0 || padding > kMaxPadding) {
    errors.Add("padding", absl::StrCat("must be in [0, ", kMaxPadding, "], found ", padding));
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::make_unique<SimpleRandomCropTransform>(size, padding, config.interpolation());
}

void SimpleRandomCropTransform::Apply(Image& image, Draws& draws) const {
  const Interpolation interpolation = DrawInterpolation(interpolation_, draws);
  const Size2d covering = CoveringSize(image.size(), size_);
  if (covering != image.size()) image = ResizedCrop(image, {0, 0, image.size()}, covering, interpolation);
  const int64_t top = draws.Below(covering.height + 2 * padding_ - size_.height + 1) - padding_;
  const int64_t left = draws.Below(covering.width + 2 * padding_ - size_.width + 1) - padding_;
  image = ReflectedCrop(image, {top, left, size_});
}

namespace {
const Registration<Transform, SimpleRandomCrop> kRegistration(
    "Resizes to cover the window, pads by reflection and cuts at random (DeiT III)", "padding: 4",
    &SimpleRandomCropTransform::Create);
}  // namespace

}  // namespace graticule
