#include "data/draw.h"

#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "plugin/file.h"
#include "plugin/status.h"
#include "stb/stb_easy_font.h"

namespace graticule {
namespace {

// What the font has of a UTF-8 text.
std::string ToAscii(const std::string& text) {
  std::string ascii;
  for (const char c : text) {
    if ((c & 0xC0) == 0x80) continue;  // goes on with a character
    ascii.push_back(c >= ' ' && c <= '~' ? c : '?');
  }
  return ascii;
}

}  // namespace

Canvas::Canvas(Size2d size, Color background) : image_{size.height, size.width, Pixels(3 * size.area())} {
  Fill({0, 0, size}, background);
}

void Canvas::Fill(const Box& box, Color colour, double opacity) {
  const int64_t bottom = std::min(box.top + box.size.height, image_.height);
  const int64_t right = std::min(box.left + box.size.width, image_.width);
  for (int64_t y = std::max<int64_t>(box.top, 0); y < bottom; ++y) {
    for (int64_t x = std::max<int64_t>(box.left, 0); x < right; ++x) {
      uint8_t* pixel = image_.pixels.data() + 3 * (y * image_.width + x);
      for (int c = 0; c < 3; ++c) {
        pixel[c] = static_cast<uint8_t>(std::lround(opacity * colour[c] + (1 - opacity) * pixel[c]));
      }
    }
  }
}

void Canvas::Draw(const Image& image, int64_t top, int64_t left, int64_t factor) {
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const uint8_t* pixel = image.pixels.data() + 3 * (y * image.width + x);
      Fill({top + y * factor, left + x * factor, {factor, factor}}, {pixel[0], pixel[1], pixel[2]});
    }
  }
}

void Canvas::Write(const std::string& text, int64_t top, int64_t left, int64_t scale, Color colour) {
  struct Vertex {
    float x, y, z;
    uint8_t colour[4];
  };
  std::string ascii = ToAscii(text);
  std::vector<Vertex> vertices(128 * (ascii.size() + 1));  // 32 rectangles a character are more than any has
  const int rectangles = stb_easy_font_print(0, 0, ascii.data(), nullptr, vertices.data(),
                                             static_cast<int>(vertices.size() * sizeof(Vertex)));
  for (int i = 0; i < rectangles; ++i) {
    const Vertex& begin = vertices[4 * i];
    const Vertex& end = vertices[4 * i + 2];
    const auto x = static_cast<int64_t>(begin.x), y = static_cast<int64_t>(begin.y);
    const auto width = static_cast<int64_t>(end.x) - x, height = static_cast<int64_t>(end.y) - y;
    Fill({top + y * scale, left + x * scale, {height * scale, width * scale}}, colour);
  }
}

int64_t TextWidth(const std::string& text, int64_t scale) { return stb_easy_font_width(ToAscii(text).data()) * scale; }

std::string CutText(const std::string& text, int64_t scale, int64_t width) {
  if (TextWidth(text, scale) <= width) return text;
  std::string kept = ToAscii(text);
  while (!kept.empty() && TextWidth(kept + "..", scale) > width) kept.pop_back();
  return kept + "..";
}

absl::StatusOr<std::string> EncodePng(const Image& image) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  if (!png_image_write_to_memory(&png, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr)) {
    return absl::InternalError(absl::StrCat("cannot encode a PNG: ", png.message));
  }
  bytes.resize(size);
  return bytes;
}

absl::Status WritePng(const std::string& path, const Image& image) {
  ASSIGN_OR_RETURN(const std::string bytes, EncodePng(image), path);
  return WriteFileAtomically(path, bytes);
}

}  // namespace graticule
