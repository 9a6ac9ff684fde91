#include "data/decode/png.h"

#include <png.h>

#include <csetjmp>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace graticule {
namespace {

// What the decoding changes lives here, outside of the frame that longjmp returns to.
struct Decoder {
  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }

  std::string_view rest;  // of the file
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string reason;
  Image image;
  Pixels rgba;                  // rows as libpng gives them
  std::vector<png_bytep> rows;  // of an interlaced image
};

[[noreturn]] void Fail(png_structp png, png_const_charp message) {
  static_cast<Decoder*>(png_get_error_ptr(png))->reason = message;
  png_longjmp(png, 1);
}

// libpng warns of what it can leave out, such as a bad colour profile; the pixels are whole.
void Ignore(png_structp png, png_const_charp message) {}

void ReadBytes(png_structp png, png_bytep data, size_t size) {
  Decoder& decoder = *static_cast<Decoder*>(png_get_io_ptr(png));
  if (size > decoder.rest.size()) png_error(png, "the file ends too early");
  std::memcpy(data, decoder.rest.data(), size);
  decoder.rest.remove_prefix(size);
}

// RGB of `pixels` RGBA values laid over black.
void OverBlack(const uint8_t* rgba, int64_t pixels, uint8_t* rgb) {
  for (int64_t i = 0; i < pixels; ++i, rgba += 4, rgb += 3) {
    for (int c = 0; c < 3; ++c) rgb[c] = static_cast<uint8_t>((rgba[c] * rgba[3] + 127) / 255);
  }
}

// False once something failed, with the reason in `decoder`.
bool Decode(Decoder& decoder) {
  png_structp png = decoder.png;
  png_infop info = decoder.info;
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, &decoder, ReadBytes);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_read_info(png, info);

  Image& image = decoder.image;
  image.height = png_get_image_height(png, info);
  image.width = png_get_image_width(png, info);
  if (image.height * image.width > Image::kMaxPixels) {
    decoder.reason = absl::StrCat(image.height, "x", image.width, " is more than 2^28 pixels");
    return false;
  }
  png_set_expand(png);  // palettes to RGB, a transparent colour to alpha, grey to at least 8 bits
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);

  const int64_t channels = png_get_channels(png, info);
  const bool alpha = channels == 4;
  const int64_t row_bytes = channels * image.width;
  // Grown row by row, so that a small file that claims a huge image does not get the memory for it.
  image.pixels.reserve(Image::kChannels * image.width * image.height);
  if (passes > 1) {
    Pixels& whole = alpha ? decoder.rgba : image.pixels;
    whole.resize(row_bytes * image.height);
    for (int64_t y = 0; y < image.height; ++y) decoder.rows.push_back(whole.data() + y * row_bytes);
    png_read_image(png, decoder.rows.data());
    if (alpha) {
      image.pixels.resize(Image::kChannels * image.width * image.height);
      OverBlack(decoder.rgba.data(), image.width * image.height, image.pixels.data());
    }
  } else {
    decoder.rgba.resize(alpha ? row_bytes : 0);
    for (int64_t y = 0; y < image.height; ++y) {
      image.pixels.resize(Image::kChannels * image.width * (y + 1));
      uint8_t* rgb = image.pixels.data() + Image::kChannels * image.width * y;
      png_read_row(png, alpha ? decoder.rgba.data() : rgb, nullptr);
      if (alpha) OverBlack(decoder.rgba.data(), image.width, rgb);
    }
  }
  png_read_end(png, nullptr);
  return true;
}

}  // namespace

bool IsPng(std::string_view bytes) { return bytes.substr(0, 8) == "\x89PNG\r\n\x1a\n"; }

absl::StatusOr<Image> DecodePng(std::string_view bytes) {
  Decoder decoder{.rest = bytes};
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, Fail, Ignore);
  if (decoder.png != nullptr) decoder.info = png_create_info_struct(decoder.png);
  const bool decoded = decoder.info != nullptr && Decode(decoder);
  if (!decoded) return absl::DataLossError(absl::StrCat("broken PNG: ", decoder.reason));
  return std::move(decoder.image);
}

}  // namespace graticule
