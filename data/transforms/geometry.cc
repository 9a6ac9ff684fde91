#include "data/transforms/geometry.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ATen/core/Tensor.h"
#include "ATen/ops/_upsample_bicubic2d_aa.h"
#include "ATen/ops/_upsample_bilinear2d_aa.h"
#include "ATen/ops/from_blob.h"
#include "ATen/ops/upsample_bicubic2d.h"
#include "ATen/ops/upsample_bilinear2d.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/core/InferenceMode.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

Image Blank(Size2d size) { return {size.height, size.width, Pixels(Image::kChannels * size.area())}; }

// [1,3,H,W] in channels-last memory over pixels that stay the caller's.
at::Tensor View(const uint8_t* pixels, Size2d size) {
  const int64_t row = Image::kChannels * size.width;
  return at::from_blob(const_cast<uint8_t*>(pixels), {1, Image::kChannels, size.height, size.width},
                       {size.height * row, 1, row, Image::kChannels}, at::TensorOptions().dtype(at::kByte));
}

using Resample = at::Tensor& (*)(const at::Tensor&, at::IntArrayRef, bool align_corners, std::optional<double>,
                                 std::optional<double>, at::Tensor&);
// Bilinear and bicubic, each without and with antialiasing.
constexpr Resample kResamples[2][2] = {{at::upsample_bilinear2d_outf, at::_upsample_bilinear2d_aa_outf},
                                       {at::upsample_bicubic2d_outf, at::_upsample_bicubic2d_aa_outf}};

}  // namespace

Image Crop(const Image& image, const Box& box) {
  Image result = Blank(box.size);
  // The columns of the box that are the image's, and the rows.
  const int64_t left = std::clamp<int64_t>(-box.left, 0, box.size.width);
  const int64_t right = std::clamp<int64_t>(image.width - box.left, left, box.size.width);
  constexpr int64_t kPixel = Image::kChannels;
  for (int64_t y = 0; y < box.size.height; ++y) {
    uint8_t* const row = result.pixels.data() + kPixel * y * box.size.width;
    const int64_t from = box.top + y;
    if (from < 0 || from >= image.height) {
      std::memset(row, 0, kPixel * box.size.width);
      continue;
    }
    std::memset(row, 0, kPixel * left);
    std::memcpy(row + kPixel * left, image.pixels.data() + kPixel * (from * image.width + box.left + left),
                kPixel * (right - left));
    std::memset(row + kPixel * right, 0, kPixel * (box.size.width - right));
  }
  return result;
}

Image ResizedCrop(const Image& image, const Box& box, Size2d size, Interpolation interpolation, bool antialias) {
  CHECK(box.top >= 0 && box.left >= 0 && box.top + box.size.height <= image.height &&
        box.left + box.size.width <= image.width);
  TORCH_CHECK(size.area() <= kMaxResultPixels, "an image of ", image.height, "x", image.width, " pixels would become ",
              size.height, "x", size.width, ", more than ", kMaxResultPixels, " pixels");
  if (size == box.size) return Crop(image, box);
  // Whole rows lie together in memory; else the kernel would make this copy.
  const bool whole_rows = box.left == 0 && box.size.width == image.width;
  const Image cut = whole_rows ? Image{} : Crop(image, box);
  const uint8_t* pixels =
      whole_rows ? image.pixels.data() + Image::kChannels * box.top * image.width : cut.pixels.data();
  Image result = Blank(size);
  c10::InferenceMode inference;
  at::Tensor out = View(result.pixels.data(), size);
  const Resample resample = kResamples[interpolation == BILINEAR ? 0 : 1][antialias];
  resample(View(pixels, box.size), {size.height, size.width}, /*align_corners=*/false, std::nullopt, std::nullopt, out);
  return result;
}

void ApplyWindow(const ResizedWindow& window, Image& image) {
  if (window.window == Box{0, 0, image.size()} && window.size == image.size()) return;
  image = ResizedCrop(image, window.window, window.size, window.interpolation, window.antialias);
}

Size2d CoveringSize(Size2d image, Size2d target) {
  if (target.height * image.width >= target.width * image.height) {
    return {target.height, target.height * image.width / image.height};
  }
  return {target.width * image.height / image.width, target.width};
}

Interpolation DrawInterpolation(Interpolation interpolation, Draws& draws) {
  if (interpolation != RANDOM) return interpolation;
  return draws.Bernoulli(0.5) ? BILINEAR : BICUBIC;
}

int64_t RoundHalfToEven(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

Box DrawBox(Size2d image, Size2d size, Draws& draws) {
  const int64_t top = draws.Below(image.height - size.height + 1);
  const int64_t left = draws.Below(image.width - size.width + 1);
  return {top, left, size};
}

Size2d SizeFromField(const google::protobuf::RepeatedField<int32_t>& field, std::string_view path, Size2d otherwise,
                     FieldErrors& errors) {
  if (field.empty()) return otherwise;
  if (field.size() > 2 || *std::min_element(field.begin(), field.end()) < 1) {
    errors.Add(path, absl::StrCat("must be a height and a width in pixels, or one number for a square, found [",
                                  absl::StrJoin(field, ", "), "]"));
    return otherwise;
  }
  const Size2d size{field[0], field[field.size() - 1]};
  if (size.area() > kMaxResultPixels) {
    errors.Add(path, absl::StrCat("must be at most ", kMaxResultPixels, " pixels in all, found [",
                                  absl::StrJoin(field, ", "), "]"));
    return otherwise;
  }
  return size;
}

}  // namespace graticule
