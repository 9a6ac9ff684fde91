#include "data/decode/png.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "data/decode/alpha.h"

namespace graticule {
namespace {

// libpng takes 8 bytes for each pixel of a row, twice.
constexpr int64_t kMaxWidth = int64_t{1} << 20;

// What the decoding changes lives here, outside of the frame that longjmp returns to.
struct Decoder {
  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }

  const DecodeOptions& options;
  std::string_view rest;  // of the file
  png_structp png = nullptr;
  png_infop info = nullptr;
  bool ended = false;  // the file, before the image
  std::string reason;
  Image image;
  Pixels row;             // as libpng gives it
  bool any_rows = false;  // decoded
};

[[noreturn]] void Fail(png_structp png, png_const_charp message) {
  static_cast<Decoder*>(png_get_error_ptr(png))->reason = message;
  png_longjmp(png, 1);
}

// libpng warns of what it can leave out; the pixels are whole.
void Ignore(png_structp png, png_const_charp message) {}

void ReadBytes(png_structp png, png_bytep data, size_t size) {
  Decoder& decoder = *static_cast<Decoder*>(png_get_io_ptr(png));
  if (size > decoder.rest.size()) {
    decoder.ended = true;
    png_error(png, "the file ends too early");
  }
  std::memcpy(data, decoder.rest.data(), size);
  decoder.rest.remove_prefix(size);
}

// Which pixels of the image come together: every `down`th row from `top` on, of it every `right`th pixel from `left`
// on.
struct Pass {
  int64_t top = 0, left = 0, down = 1, right = 1;
};

Pass InterlacedPass(int pass) {
  return {PNG_PASS_START_ROW(pass), PNG_PASS_START_COL(pass), int64_t{1} << PNG_PASS_ROW_SHIFT(pass),
          int64_t{1} << PNG_PASS_COL_SHIFT(pass)};
}

void ReadPass(const Pass& pass, Decoder& decoder) {
  Image& image = decoder.image;
  // libpng leaves out a pass without pixels.
  if (pass.left >= image.width) return;
  const int64_t channels = png_get_channels(decoder.png, decoder.info);
  for (int64_t y = pass.top; y < image.height; y += pass.down) {
    png_read_row(decoder.png, decoder.row.data(), nullptr);
    const uint8_t* from = decoder.row.data();
    uint8_t* to = image.pixels.data() + Image::kChannels * (y * image.width + pass.left);
    for (int64_t x = pass.left; x < image.width; x += pass.right) {
      if (channels == 4) {
        LayOver(decoder.options.background, from, to);
      } else {
        std::memcpy(to, from, Image::kChannels);
      }
      from += channels;
      to += Image::kChannels * pass.right;
    }
    decoder.any_rows = true;
  }
}

// False once something failed, with the reason in `decoder`.
bool Decode(Decoder& decoder) {
  png_structp png = decoder.png;
  png_infop info = decoder.info;
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, &decoder, ReadBytes);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  // Texts and colour profiles, which can be bombs too, are not even read.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  // Of what is read at once, all is lost where the file ends in it.
  if (decoder.options.keep_truncated) png_set_compression_buffer_size(png, 64);
  png_read_info(png, info);

  Image& image = decoder.image;
  image.height = png_get_image_height(png, info);
  image.width = png_get_image_width(png, info);
  if (image.size().area() > decoder.options.max_pixels) {
    decoder.reason =
        absl::StrCat(image.height, "x", image.width, " is more than ", decoder.options.max_pixels, " pixels");
    return false;
  }
  if (image.width > kMaxWidth) {
    decoder.reason = absl::StrCat("its ", image.width, " columns are more than ", kMaxWidth);
    return false;
  }
  png_set_expand(png);  // palettes to RGB, a transparent colour to alpha, grey to at least 8 bits
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  png_read_update_info(png, info);

  // A small file that claims a huge image only gets addresses: the system gives memory for what is written.
  image.pixels.resize(Image::kChannels * image.size().area());
  if (decoder.options.keep_truncated) std::fill(image.pixels.begin(), image.pixels.end(), 128);
  decoder.row.resize(png_get_rowbytes(png, info));
  if (png_get_interlace_type(png, info) == PNG_INTERLACE_NONE) {
    ReadPass({}, decoder);
  } else {
    for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; ++pass) ReadPass(InterlacedPass(pass), decoder);
  }
  png_read_end(png, nullptr);
  return true;
}

}  // namespace

bool IsPng(std::string_view bytes) { return bytes.substr(0, 8) == "\x89PNG\r\n\x1a\n"; }

absl::StatusOr<Image> DecodePng(std::string_view bytes, const DecodeOptions& options) {
  Decoder decoder{.options = options, .rest = bytes};
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, Fail, Ignore);
  if (decoder.png != nullptr) decoder.info = png_create_info_struct(decoder.png);
  const bool decoded = decoder.info != nullptr && Decode(decoder);
  const bool kept = decoder.ended && options.keep_truncated && decoder.any_rows;
  if (decoded || kept) return std::move(decoder.image);
  const std::string message = absl::StrCat("broken PNG: ", decoder.reason);
  return decoder.ended ? absl::OutOfRangeError(message) : absl::DataLossError(message);
}

}  // namespace graticule
