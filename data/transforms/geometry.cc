#include "data/transforms/geometry.h"

#include <algorithm>
#include <cstring>

#include "ATen/core/Tensor.h"
#include "ATen/ops/_upsample_bicubic2d_aa.h"
#include "ATen/ops/_upsample_bilinear2d_aa.h"
#include "ATen/ops/from_blob.h"
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

}  // namespace

Image Crop(const Image& image, const Box& box) {
  CHECK(box.top >= 0 && box.left >= 0 && box.top + box.size.height <= image.height &&
        box.left + box.size.width <= image.width);
  Image result = Blank(box.size);
  const int64_t row = Image::kChannels * box.size.width;
  for (int64_t y = 0; y < box.size.height; ++y) {
    std::memcpy(result.pixels.data() + y * row,
                image.pixels.data() + Image::kChannels * ((box.top + y) * image.width + box.left), row);
  }
  return result;
}

Image Pad(const Image& image, int64_t top, int64_t bottom, int64_t left, int64_t right) {
  const Size2d size{image.height + top + bottom, image.width + left + right};
  Image result{size.height, size.width, Pixels(Image::kChannels * size.area(), 0)};
  const int64_t row = Image::kChannels * image.width;
  for (int64_t y = 0; y < image.height; ++y) {
    std::memcpy(result.pixels.data() + Image::kChannels * ((top + y) * result.width + left),
                image.pixels.data() + y * row, row);
  }
  return result;
}

Image ResizedCrop(const Image& image, const Box& box, Size2d size, Interpolation interpolation) {
  TORCH_CHECK(size.area() <= Image::kMaxPixels, "an image of ", image.height, "x", image.width, " pixels would become ",
              size.height, "x", size.width);
  if (size == box.size) return Crop(image, box);
  // Whole rows lie together in memory; else the kernel would make this copy.
  const bool whole_rows = box.left == 0 && box.size.width == image.width;
  const Image cut = whole_rows ? Image{} : Crop(image, box);
  const uint8_t* pixels =
      whole_rows ? image.pixels.data() + Image::kChannels * box.top * image.width : cut.pixels.data();
  Image result = Blank(size);
  c10::InferenceMode inference;
  at::Tensor out = View(result.pixels.data(), size);
  const auto resample = interpolation == BILINEAR ? at::_upsample_bilinear2d_aa_outf : at::_upsample_bicubic2d_aa_outf;
  resample(View(pixels, box.size), {size.height, size.width}, /*align_corners=*/false, std::nullopt, std::nullopt, out);
  return result;
}

Size2d SizeFromField(const google::protobuf::RepeatedField<int32_t>& field, std::string_view path, Size2d otherwise,
                     FieldErrors& errors) {
  if (field.empty()) return otherwise;
  if (field.size() > 2 || *std::min_element(field.begin(), field.end()) < 1) {
    errors.Add(path, absl::StrCat("must be a height and a width in pixels, or one number for a square, found [",
                                  absl::StrJoin(field, ", "), "]"));
    return otherwise;
  }
  return {field[0], field[field.size() - 1]};
}

}  // namespace graticule
