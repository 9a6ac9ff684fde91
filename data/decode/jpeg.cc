#include "data/decode/jpeg.h"

#include <csetjmp>
#include <cstdio>
// clang-format off: needs the lines before it
#include <jerror.h>
#include <jpeglib.h>
// clang-format on

#include "absl/strings/str_cat.h"

namespace graticule {
namespace {

// A few kilobytes of progressive scans can cost minutes; real files have ten or so.
constexpr int kMaxScans = 500;
// Of libjpeg itself, in bytes: a progressive image is held whole as coefficients.
constexpr long kMaxMemory = 1L << 29;

// libjpeg's state and what its callbacks need. Everything that the decoding changes lives here, outside of the frame
// that longjmp returns to.
struct Decoder {
  ~Decoder() { jpeg_destroy_decompress(&jpeg); }

  jpeg_decompress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  std::jmp_buf failed;
  char reason[JMSG_LENGTH_MAX];
  const DecodeOptions* options;
  bool in_data;  // past the header
  bool ended;    // the file, before the image
  Image image;
  std::vector<uint8_t> cmyk;  // one row
};

[[noreturn]] void Fail(j_common_ptr jpeg) {
  Decoder* decoder = static_cast<Decoder*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, decoder->reason);
  std::longjmp(decoder->failed, 1);
}

void OnMessage(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  Decoder* decoder = static_cast<Decoder*>(jpeg->client_data);
  if (jpeg->err->msg_code == JWRN_JPEG_EOF) decoder->ended = true;
  // What libjpeg makes up after the end it also complains about.
  if (decoder->in_data && !(decoder->ended && decoder->options->keep_truncated)) Fail(jpeg);
}

void OnProgress(j_common_ptr jpeg) {
  Decoder* decoder = static_cast<Decoder*>(jpeg->client_data);
  if (decoder->jpeg.input_scan_number <= kMaxScans) return;
  std::snprintf(decoder->reason, sizeof(decoder->reason), "more than %d scans", kMaxScans);
  std::longjmp(decoder->failed, 1);
}

// CMYK as ink. Adobe's programs store it inverted, and say that they wrote it.
void CmykToRgb(const uint8_t* cmyk, int64_t pixels, bool inverted, uint8_t* rgb) {
  for (int64_t i = 0; i < pixels; ++i, cmyk += 4, rgb += 3) {
    const int light = inverted ? cmyk[3] : 255 - cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const int value = inverted ? cmyk[c] : 255 - cmyk[c];
      rgb[c] = static_cast<uint8_t>((value * light + 127) / 255);
    }
  }
}

// False once something failed, with the reason in `decoder`.
bool Decode(std::string_view bytes, Decoder& decoder) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  if (setjmp(decoder.failed) != 0) return false;
  jpeg_create_decompress(&jpeg);
  jpeg.mem->max_memory_to_use = kMaxMemory;
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);

  if (int64_t{jpeg.image_width} * jpeg.image_height > decoder.options->max_pixels) {
    std::snprintf(decoder.reason, sizeof(decoder.reason), "%ux%u is more than %lld pixels", jpeg.image_height,
                  jpeg.image_width, static_cast<long long>(decoder.options->max_pixels));
    return false;
  }
  const bool cmyk = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
  jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  // create_decompress() has cleared it.
  jpeg.progress = &decoder.progress;
  decoder.in_data = true;
  jpeg_start_decompress(&jpeg);

  Image& image = decoder.image;
  image.height = jpeg.output_height;
  image.width = jpeg.output_width;
  const int64_t row_bytes = Image::kChannels * image.width;
  // Grown row by row, so that a small file that claims a huge image does not get the memory for it.
  image.pixels.reserve(row_bytes * image.height);
  decoder.cmyk.resize(cmyk ? 4 * image.width : 0);
  while (jpeg.output_scanline < jpeg.output_height) {
    image.pixels.resize(row_bytes * (jpeg.output_scanline + 1));
    uint8_t* rgb = image.pixels.data() + row_bytes * jpeg.output_scanline;
    JSAMPROW row = cmyk ? decoder.cmyk.data() : rgb;
    jpeg_read_scanlines(&jpeg, &row, 1);
    if (cmyk) CmykToRgb(decoder.cmyk.data(), image.width, jpeg.saw_Adobe_marker, rgb);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

}  // namespace

bool IsJpeg(std::string_view bytes) { return bytes.substr(0, 3) == "\xff\xd8\xff"; }

absl::StatusOr<DecodedRegion> DecodeJpeg(std::string_view bytes, const DecodeOptions& options,
                                         const RegionChooser& choose) {
  Decoder decoder{};
  decoder.options = &options;
  decoder.jpeg.client_data = &decoder;
  decoder.jpeg.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = Fail;
  decoder.errors.emit_message = OnMessage;
  decoder.progress.progress_monitor = OnProgress;
  if (!Decode(bytes, decoder)) {
    const std::string message = absl::StrCat("broken JPEG: ", decoder.reason);
    return decoder.ended ? absl::OutOfRangeError(message) : absl::DataLossError(message);
  }
  const std::optional<WantedRegion> wanted = choose ? choose(decoder.image.size()) : std::nullopt;
  const Box window = wanted ? wanted->window : Box{0, 0, decoder.image.size()};
  return DecodedRegion{std::move(decoder.image), window};
}

}  // namespace graticule
