#include "data/decode/exif.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "data/decode/jpeg.h"
#include "data/decode/png.h"
#include "data/decode/webp.h"

namespace graticule {
namespace {

using namespace std::string_view_literals;

enum class ByteOrder { kBig, kLittle };

// The unsigned number in `size` bytes from `at`; nothing where the bytes end before.
std::optional<uint32_t> Number(std::string_view bytes, size_t at, size_t size, ByteOrder order) {
  if (at > bytes.size() || bytes.size() - at < size) return std::nullopt;
  uint32_t number = 0;
  for (size_t i = 0; i < size; ++i) {
    number = number << 8 | static_cast<uint8_t>(bytes[at + (order == ByteOrder::kBig ? i : size - 1 - i)]);
  }
  return number;
}

// The functions below find the EXIF data, which is a TIFF file without pictures; nothing where there is none.

std::string_view ExifOfJpeg(std::string_view file) {
  for (size_t at = 2;;) {
    // As libjpeg does, skip what stands between segments.
    at = file.find('\xff', at);
    at = file.find_first_not_of('\xff', at);
    if (at == std::string_view::npos) return {};
    const uint8_t marker = file[at++];
    if (marker == 0xd9 || marker == 0xda) return {};                     // the end, or the picture
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // alone, without a segment
    const std::optional<uint32_t> length = Number(file, at, 2, ByteOrder::kBig);
    if (!length || *length < 2) return {};
    const std::string_view segment = file.substr(at + 2, *length - 2);
    if (marker == 0xe1 && segment.substr(0, 6) == "Exif\0\0"sv) return segment.substr(6);
    at += *length;
  }
}

std::string_view ExifOfPng(std::string_view file) {
  for (size_t at = 8;;) {
    const std::optional<uint32_t> length = Number(file, at, 4, ByteOrder::kBig);
    if (!length || file.size() - at < 8) return {};
    if (file.substr(at + 4, 4) == "eXIf") return file.substr(at + 8, *length);
    at += 12 + size_t{*length};
  }
}

std::string_view ExifOfWebp(std::string_view file) {
  for (size_t at = 12;;) {
    const std::optional<uint32_t> length = Number(file, at + 4, 4, ByteOrder::kLittle);
    if (!length) return {};
    if (file.substr(at, 4) == "EXIF") {
      const std::string_view exif = file.substr(at + 8, *length);
      // Some programs leave what belongs into JPEG's segments only.
      return exif.substr(0, 6) == "Exif\0\0"sv ? exif.substr(6) : exif;
    }
    at += 8 + size_t{*length} + *length % 2;
  }
}

int OrientationOfTiff(std::string_view tiff) {
  constexpr uint32_t kOrientation = 0x0112, kShort = 3;
  const bool little = tiff.substr(0, 4) == "II*\0"sv;
  if (!little && tiff.substr(0, 4) != "MM\0*"sv) return 1;
  const ByteOrder order = little ? ByteOrder::kLittle : ByteOrder::kBig;
  const std::optional<uint32_t> directory = Number(tiff, 4, 4, order);
  if (!directory) return 1;
  const uint32_t entries = Number(tiff, *directory, 2, order).value_or(0);
  for (uint32_t i = 0; i < entries; ++i) {
    // Tag, type, count of values, and the value where it is that small.
    const size_t entry = size_t{*directory} + 2 + 12 * i;
    const std::optional<uint32_t> value = Number(tiff, entry + 8, 2, order);
    if (!value) return 1;
    if (Number(tiff, entry, 2, order) != kOrientation) continue;
    const bool valid = Number(tiff, entry + 2, 2, order) == kShort && *value >= 1 && *value <= 8;
    return valid ? static_cast<int>(*value) : 1;
  }
  return 1;
}

// From the stored image to the upright one: it is mirrored so, and then transposed.
bool FlipsRows(int orientation) { return orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7; }
bool FlipsColumns(int orientation) {
  return orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
}
bool Transposes(int orientation) { return orientation >= 5; }

Box Flipped(Box box, Size2d size, int orientation) {
  if (FlipsRows(orientation)) box.top = size.height - box.top - box.size.height;
  if (FlipsColumns(orientation)) box.left = size.width - box.left - box.size.width;
  return box;
}

Box Transposed(const Box& box, int orientation) {
  return Transposes(orientation) ? Box{box.left, box.top, {box.size.width, box.size.height}} : box;
}

}  // namespace

int ExifOrientation(std::string_view file) {
  if (IsJpeg(file)) return OrientationOfTiff(ExifOfJpeg(file));
  if (IsPng(file)) return OrientationOfTiff(ExifOfPng(file));
  if (IsWebp(file)) return OrientationOfTiff(ExifOfWebp(file));
  return 1;
}

Size2d Upright(Size2d stored, int orientation) {
  return Transposes(orientation) ? Size2d{stored.width, stored.height} : stored;
}

Box Upright(const Box& stored, Size2d size, int orientation) {
  return Transposed(Flipped(stored, size, orientation), orientation);
}

Box Stored(const Box& upright, Size2d size, int orientation) {
  return Flipped(Transposed(upright, orientation), size, orientation);
}

Image Upright(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const Size2d size = Upright(stored.size(), orientation);
  Image image{size.height, size.width, Pixels(stored.pixels.size())};
  // Where in the stored image the upright one begins, and what a step right and one down are there.
  const int64_t stored_row = Image::kChannels * stored.width;
  const int64_t first = (FlipsRows(orientation) ? (stored.height - 1) * stored_row : 0) +
                        (FlipsColumns(orientation) ? stored_row - Image::kChannels : 0);
  int64_t down = FlipsRows(orientation) ? -stored_row : stored_row;
  int64_t right = FlipsColumns(orientation) ? -Image::kChannels : Image::kChannels;
  if (Transposes(orientation)) std::swap(down, right);
  uint8_t* to = image.pixels.data();
  for (int64_t y = 0; y < size.height; ++y) {
    const uint8_t* from = stored.pixels.data() + first + y * down;
    for (int64_t x = 0; x < size.width; ++x, to += Image::kChannels) {
      std::memcpy(to, from + x * right, Image::kChannels);
    }
  }
  return image;
}

}  // namespace graticule
