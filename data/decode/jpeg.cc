#include "data/decode/jpeg.h"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
// clang-format off: needs the lines before it
#define JPEG_INTERNALS
#include <jerror.h>
#include <jpeglib.h>
// clang-format on

#include "absl/strings/str_cat.h"
#include "data/decode/huffman.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

// A few kilobytes of progressive scans can cost minutes; real files have ten or so.
constexpr int kMaxScans = 500;
// Of a whole decoding: libjpeg holds a progressive image as coefficients beside its pixels.
constexpr int64_t kMaxBytesPerPixel = 8;
constexpr int64_t kLibjpegsOwn = 1 << 20;  // tables and single rows, in bytes
constexpr int kRowsPerCall = 16;
// Colour at half the resolution is interpolated from its neighbours on either side.
constexpr int64_t kUpsamplingMargin = 2;
constexpr std::string_view kEndOfImage = "\xff\xd9";

enum class Outcome { kDecoded, kFailed, kIrregular };

// libjpeg's state and what its callbacks need. Everything that the decoding changes lives here, outside of the frame
// that longjmp returns to.
struct Decoder {
  Decoder(const DecodeOptions& options, HuffmanScan* scan) : options(options), scan(scan) {}
  ~Decoder() { jpeg_destroy_decompress(&jpeg); }

  const DecodeOptions& options;
  HuffmanScan* const scan;  // nullptr: all is left to libjpeg
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf stopped;
  char reason[JMSG_LENGTH_MAX] = {};
  bool in_data = false;  // past the header
  bool ended = false;    // the file, before the image
  int64_t mcus_left = 0;
  DecodedRegion region;
  Pixels detour;  // kRowsPerCall rows on their way to the image
};

Decoder& DecoderOf(const void* jpeg) {
  return *static_cast<Decoder*>(static_cast<const jpeg_common_struct*>(jpeg)->client_data);
}

[[noreturn]] void Stop(Decoder& decoder, Outcome outcome) { std::longjmp(decoder.stopped, static_cast<int>(outcome)); }

[[noreturn]] void Fail(j_common_ptr jpeg) {
  Decoder& decoder = DecoderOf(jpeg);
  if (jpeg->err->msg_code == JERR_NO_BACKING_STORE) {
    std::snprintf(decoder.reason, sizeof(decoder.reason), "its coefficients take more memory than max_pixels allows");
  } else {
    jpeg->err->format_message(jpeg, decoder.reason);
  }
  Stop(decoder, Outcome::kFailed);
}

void OnMessage(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  Decoder& decoder = DecoderOf(jpeg);
  if (jpeg->err->msg_code == JWRN_JPEG_EOF) decoder.ended = true;
  // What libjpeg makes up after the end it also complains about.
  if (decoder.in_data && !(decoder.ended && decoder.options.keep_truncated)) Fail(jpeg);
}

void OnProgress(j_common_ptr jpeg) {
  Decoder& decoder = DecoderOf(jpeg);
  if (decoder.jpeg.input_scan_number <= kMaxScans) return;
  std::snprintf(decoder.reason, sizeof(decoder.reason), "more than %d scans", kMaxScans);
  Stop(decoder, Outcome::kFailed);
}

// jpeg_entropy_decoder::decode_mcu.
boolean ReadMcu(j_decompress_ptr jpeg, JBLOCKROW* blocks) {
  Decoder& decoder = DecoderOf(jpeg);
  if (!decoder.scan->ReadMcu(blocks)) Stop(decoder, Outcome::kIrregular);
  if (--decoder.mcus_left == 0) {
    const uint8_t* marker = decoder.scan->NextMarker();
    if (marker == nullptr) Stop(decoder, Outcome::kIrregular);
    jpeg_source_mgr& source = *jpeg->src;
    source.bytes_in_buffer -= marker - source.next_input_byte;
    source.next_input_byte = marker;
  }
  return TRUE;
}

HuffmanCodes CodesOf(const JHUFF_TBL& table) {
  HuffmanCodes codes;
  std::copy_n(table.bits + 1, codes.counts.size(), codes.counts.begin());
  std::copy_n(table.huffval, codes.symbols.size(), codes.symbols.begin());
  return codes;
}

// Puts our reader of entropy-coded data in the place of libjpeg's, where it knows the kind. To be called between
// jpeg_start_decompress(), which has checked the scan's header and tables, and the first row.
void UseOwnHuffmanReader(Decoder& decoder) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  const bool baseline = !jpeg.progressive_mode && !jpeg.arith_code && jpeg.data_precision == 8 && jpeg.Ss == 0 &&
                        jpeg.Se == 63 && jpeg.Ah == 0 && jpeg.Al == 0;
  if (!baseline || jpeg.inputctl->has_multiple_scans) return;
  std::array<HuffmanScan::Block, HuffmanScan::kMaxBlocks> blocks;
  for (int i = 0; i < jpeg.blocks_in_MCU; ++i) {
    const int component = jpeg.MCU_membership[i];
    const jpeg_component_info& info = *jpeg.cur_comp_info[component];
    if (!decoder.scan->SetDcCodes(info.dc_tbl_no, CodesOf(*jpeg.dc_huff_tbl_ptrs[info.dc_tbl_no])) ||
        !decoder.scan->SetAcCodes(info.ac_tbl_no, CodesOf(*jpeg.ac_huff_tbl_ptrs[info.ac_tbl_no]))) {
      return;
    }
    blocks[i] = {component, info.dc_tbl_no, info.ac_tbl_no, info.DCT_scaled_size == 1};
  }
  decoder.scan->Start({jpeg.src->next_input_byte, jpeg.src->bytes_in_buffer},
                      std::span(blocks).first(jpeg.blocks_in_MCU), static_cast<int>(jpeg.restart_interval));
  decoder.mcus_left = int64_t{jpeg.MCUs_per_row} * jpeg.MCU_rows_in_scan;
  jpeg.entropy->decode_mcu = ReadMcu;
}

bool IsMultipleOf32(const uint8_t* address) { return reinterpret_cast<uintptr_t>(address) % 32 == 0; }

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

// What the scale 1/`denominator` makes of the window, to the nearest pixels.
Box Scaled(const Box& window, int64_t denominator) {
  const auto scaled = [denominator](int64_t edge) { return (edge + denominator / 2) / denominator; };
  const int64_t top = scaled(window.top), left = scaled(window.left);
  return {top, left, {scaled(window.top + window.size.height) - top, scaled(window.left + window.size.width) - left}};
}

// The largest of 1, 2, 4 and 8 that leaves the window no smaller than its target.
int ScaleDenominator(const WantedRegion& wanted) {
  const auto fits = [&wanted](int denominator) {
    return wanted.window.size.height / denominator >= std::max<int64_t>(wanted.target.height, 1) &&
           wanted.window.size.width / denominator >= std::max<int64_t>(wanted.target.width, 1);
  };
  int denominator = 1;
  while (denominator < 8 && fits(2 * denominator)) denominator *= 2;
  return denominator;
}

// Reads the rows of the region that libjpeg stands before.
void ReadRows(Decoder& decoder, int64_t rows) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  Image& image = decoder.region.image;
  image.height = rows;
  image.width = jpeg.output_width;
  const bool cmyk = jpeg.out_color_space == JCS_CMYK;
  const int64_t row_bytes = Image::kChannels * image.width;
  // Grown as rows come, so that a small file that claims a huge image does not get the memory for it.
  image.pixels.reserve(row_bytes * rows);
  // Rows take a detour if they are CMYK, or if they would begin at a multiple of 32 bytes: those libjpeg-turbo writes
  // around the caches, which costs a quarter of a small image's time, and more to whoever reads them next.
  const int64_t detour_bytes = (jpeg.output_components * image.width + 31) / 32 * 32;
  decoder.detour.resize(kRowsPerCall * detour_bytes + 32);
  uint8_t* const detour = decoder.detour.data() + (IsMultipleOf32(decoder.detour.data()) ? 1 : 0);
  for (int64_t y = 0; y < rows;) {
    const int64_t most = std::min<int64_t>(kRowsPerCall, rows - y);
    image.pixels.resize(row_bytes * (y + most));
    uint8_t* rgb = image.pixels.data() + row_bytes * y;
    JSAMPROW pointers[kRowsPerCall];
    for (int i = 0; i < most; ++i) {
      uint8_t* const row = rgb + row_bytes * i;
      pointers[i] = cmyk || IsMultipleOf32(row) ? detour + detour_bytes * i : row;
    }
    const int64_t read = jpeg_read_scanlines(&jpeg, pointers, static_cast<JDIMENSION>(most));
    for (int i = 0; i < read; ++i, ++y, rgb += row_bytes) {
      if (cmyk) {
        CmykToRgb(pointers[i], image.width, jpeg.saw_Adobe_marker, rgb);
      } else if (pointers[i] != rgb) {
        std::memcpy(rgb, pointers[i], row_bytes);
      }
    }
  }
}

// Whether the image's end is anywhere in what libjpeg has not read. Entropy-coded data has no such bytes.
bool EndFollows(std::string_view bytes, const jpeg_decompress_struct& jpeg) {
  if (jpeg.inputctl->eoi_reached || bytes.ends_with(kEndOfImage)) return true;
  return bytes.substr(bytes.size() - jpeg.src->bytes_in_buffer).find(kEndOfImage) != std::string_view::npos;
}

// Makes libjpeg go on with the window's first row, in rows that begin no later than the window. Returns where.
int64_t SkipToWindow(jpeg_decompress_struct& jpeg, const Box& window) {
  JDIMENSION left = static_cast<JDIMENSION>(std::max<int64_t>(window.left - kUpsamplingMargin, 0));
  const int64_t right = std::min<int64_t>(window.left + window.size.width + kUpsamplingMargin, jpeg.output_width);
  JDIMENSION width = static_cast<JDIMENSION>(right - left);
  if (width < jpeg.output_width) jpeg_crop_scanline(&jpeg, &left, &width);
  if (window.top > 0) jpeg_skip_scanlines(&jpeg, static_cast<JDIMENSION>(window.top));
  return left;
}

// With another outcome than kDecoded the region is of no use. Nothing here may change a variable of its own, or hold
// one with a destructor, once libjpeg is at work: longjmp knows of neither.
Outcome Decode(std::string_view bytes, const RegionChooser& choose, Decoder& decoder) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  switch (setjmp(decoder.stopped)) {
    case static_cast<int>(Outcome::kFailed):
      return Outcome::kFailed;
    case static_cast<int>(Outcome::kIrregular):
      return Outcome::kIrregular;
  }
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);

  const Box whole{0, 0, {jpeg.image_height, jpeg.image_width}};
  if (whole.size.area() > decoder.options.max_pixels) {
    std::snprintf(decoder.reason, sizeof(decoder.reason), "%ux%u is more than %lld pixels", jpeg.image_height,
                  jpeg.image_width, static_cast<long long>(decoder.options.max_pixels));
    return Outcome::kFailed;
  }
  jpeg.mem->max_memory_to_use =
      kLibjpegsOwn + kMaxBytesPerPixel * decoder.options.max_pixels - Image::kChannels * whole.size.area();
  const bool cmyk = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
  jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  const WantedRegion wanted = choose(whole.size).value_or(WantedRegion{whole, whole.size});
  const int denominator = ScaleDenominator(wanted);
  jpeg.scale_num = 1;
  jpeg.scale_denom = denominator;
  // create_decompress() has cleared it.
  jpeg.progress = &decoder.progress;
  decoder.in_data = true;
  jpeg_start_decompress(&jpeg);
  if (decoder.scan != nullptr) UseOwnHuffmanReader(decoder);

  const Box window = Scaled(wanted.window, denominator);
  CHECK(window.top >= 0 && window.left >= 0 && window.size.height > 0 && window.size.width > 0 &&
        window.top + window.size.height <= jpeg.output_height && window.left + window.size.width <= jpeg.output_width);
  const int64_t left = SkipToWindow(jpeg, window);
  decoder.region.window = {0, window.left - left, window.size};
  ReadRows(decoder, window.size.height);
  if (jpeg.output_scanline == jpeg.output_height) {
    jpeg_finish_decompress(&jpeg);
  } else if (!decoder.options.keep_truncated && !EndFollows(bytes, jpeg)) {
    decoder.ended = true;
    std::snprintf(decoder.reason, sizeof(decoder.reason), "the file ends before the image");
    return Outcome::kFailed;
  }
  return Outcome::kDecoded;
}

}  // namespace

bool IsJpeg(std::string_view bytes) { return bytes.substr(0, 3) == "\xff\xd8\xff"; }

absl::StatusOr<DecodedRegion> DecodeJpeg(std::string_view bytes, const DecodeOptions& options,
                                         const RegionChooser& choose) {
  // Keeps its tables, as files of one origin often have the same codes.
  thread_local HuffmanScan scan;
  std::optional<std::optional<WantedRegion>> chosen;
  const RegionChooser choose_once = [&choose, &chosen](Size2d size) {
    if (!chosen) chosen = choose ? choose(size) : std::nullopt;
    return *chosen;
  };
  for (HuffmanScan* own : {&scan, static_cast<HuffmanScan*>(nullptr)}) {
    Decoder decoder(options, own);
    decoder.jpeg.client_data = &decoder;
    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = Fail;
    decoder.errors.emit_message = OnMessage;
    decoder.progress.progress_monitor = OnProgress;
    switch (Decode(bytes, choose_once, decoder)) {
      case Outcome::kDecoded:
        return std::move(decoder.region);
      case Outcome::kFailed: {
        const std::string message = absl::StrCat("broken JPEG: ", decoder.reason);
        return decoder.ended ? absl::OutOfRangeError(message) : absl::DataLossError(message);
      }
      case Outcome::kIrregular:
        break;  // libjpeg's own reader says what it is
    }
  }
  LOG(FATAL) << "libjpeg's own reader leaves nothing to others";
}

}  // namespace graticule
