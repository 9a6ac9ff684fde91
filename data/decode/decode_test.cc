#include "data/decode/decode.h"

#include <png.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>
// clang-format off: needs the lines before it
#include <jpeglib.h>
// clang-format on

#include "absl/status/status.h"
#include "data/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

// A smooth picture, which JPEG keeps nearly as it is.
Image Picture(int64_t height, int64_t width) {
  Image image{height, width, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (const int64_t value : {40 + 2 * y, 200 - 2 * x, 60 + x + y}) {
        image.pixels.push_back(static_cast<uint8_t>(std::clamp<int64_t>(value, 0, 255)));
      }
    }
  }
  return image;
}

struct JpegOptions {
  J_COLOR_SPACE from = JCS_RGB;
  J_COLOR_SPACE to = JCS_YCbCr;
  bool progressive = false;
  bool arithmetic = false;
  int restart_interval = 0;
};

// `values` are tight rows of the colour space `from`.
std::string EncodeJpeg(int64_t height, int64_t width, int channels, std::vector<uint8_t> values,
                       JpegOptions options = {}) {
  jpeg_compress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &buffer, &size);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.input_components = channels;
  jpeg.in_color_space = options.from;
  jpeg_set_defaults(&jpeg);
  jpeg_set_colorspace(&jpeg, options.to);
  jpeg_set_quality(&jpeg, 98, TRUE);
  jpeg.arith_code = options.arithmetic;
  jpeg.restart_interval = options.restart_interval;
  if (options.progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  for (int64_t y = 0; y < height; ++y) {
    JSAMPROW row = values.data() + y * width * channels;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string bytes(reinterpret_cast<char*>(buffer), size);
  jpeg_destroy_compress(&jpeg);
  free(buffer);
  return bytes;
}

std::string EncodeJpeg(const Image& image, JpegOptions options = {}) {
  return EncodeJpeg(image.height, image.width, 3, image.pixels, options);
}

struct PngOptions {
  int bits = 8;
  int colour_type = PNG_COLOR_TYPE_RGB;
  bool interlaced = false;
  std::vector<png_color> palette;
  std::vector<uint8_t> palette_alpha;
  int transparent_grey = -1;
};

// `rows` are as the file holds them: packed below 8 bits, big-endian above.
std::string EncodePng(int64_t height, int64_t width, std::vector<uint8_t> rows, const PngOptions& options = {}) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  std::string bytes;
  png_set_write_fn(
      png, &bytes,
      [](png_structp png, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<char*>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), options.bits,
               options.colour_type, options.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!options.palette.empty()) {
    png_set_PLTE(png, info, options.palette.data(), static_cast<int>(options.palette.size()));
  }
  if (!options.palette_alpha.empty()) {
    png_set_tRNS(png, info, options.palette_alpha.data(), static_cast<int>(options.palette_alpha.size()), nullptr);
  }
  if (options.transparent_grey >= 0) {
    png_color_16 colour{};
    colour.gray = static_cast<png_uint_16>(options.transparent_grey);
    png_set_tRNS(png, info, nullptr, 0, &colour);
  }
  png_write_info(png, info);
  std::vector<png_bytep> pointers;
  const size_t row_bytes = rows.size() / height;
  for (int64_t y = 0; y < height; ++y) pointers.push_back(rows.data() + y * row_bytes);
  png_write_image(png, pointers.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

Image Decoded(std::string_view bytes) {
  const absl::StatusOr<Image> image = DecodeImage(bytes);
  EXPECT_TRUE(image.ok()) << image.status();
  return image.ok() ? *image : Image{};
}

std::string Reason(std::string_view bytes) {
  const absl::StatusOr<Image> image = DecodeImage(bytes);
  return image.ok() ? "none" : std::string(image.status().message());
}

void ExpectNear(const Image& a, const Image& b, int tolerance) {
  ASSERT_EQ(a.height, b.height);
  ASSERT_EQ(a.width, b.width);
  ASSERT_EQ(a.pixels.size(), b.pixels.size());
  int most = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
  EXPECT_LE(most, tolerance);
}

TEST(JpegTest, DecodesBaselineProgressiveArithmeticAndRgb) {
  const Image picture = Picture(37, 53);
  ExpectNear(Decoded(EncodeJpeg(picture)), picture, 6);
  ExpectNear(Decoded(EncodeJpeg(picture, {.progressive = true})), picture, 6);
  ExpectNear(Decoded(EncodeJpeg(picture, {.arithmetic = true})), picture, 6);
  ExpectNear(Decoded(EncodeJpeg(picture, {.restart_interval = 2})), picture, 6);
  ExpectNear(Decoded(EncodeJpeg(picture, {.to = JCS_RGB})), picture, 6);
  ExpectNear(Decoded(EncodeJpeg(Picture(1, 1))), Picture(1, 1), 3);
}

TEST(JpegTest, GreyIsReplicated) {
  std::vector<uint8_t> grey;
  Image expected{20, 30, {}};
  for (int i = 0; i < 600; ++i) {
    grey.push_back(static_cast<uint8_t>(i / 4));
    expected.pixels.insert(expected.pixels.end(), 3, grey.back());
  }
  const Image image = Decoded(EncodeJpeg(20, 30, 1, grey, {.from = JCS_GRAYSCALE, .to = JCS_GRAYSCALE}));
  ExpectNear(image, expected, 8);
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    ASSERT_EQ(image.pixels[i], image.pixels[i + 1]);
    ASSERT_EQ(image.pixels[i], image.pixels[i + 2]);
  }
}

// libjpeg writes an Adobe marker with CMYK and YCCK, and Adobe's values are inverted: 255 is no ink.
TEST(JpegTest, CmykAndYcckAreInkOverWhite) {
  std::vector<uint8_t> cmyk;
  for (int i = 0; i < 16 * 16; ++i) {
    for (const int value : {204, 102, 255, 51}) cmyk.push_back(static_cast<uint8_t>(value));
  }
  // Light that cyan, magenta and yellow let pass, times that of black.
  const Image expected{1, 1, {204 * 51 / 255, 102 * 51 / 255, 255 * 51 / 255}};
  for (const J_COLOR_SPACE to : {JCS_CMYK, JCS_YCCK}) {
    const Image image = Decoded(EncodeJpeg(16, 16, 4, cmyk, {.from = JCS_CMYK, .to = to}));
    ASSERT_EQ(image.pixels.size(), 3u * 16 * 16);
    ExpectNear({1, 1, {image.pixels.begin() + 300, image.pixels.begin() + 303}}, expected, 2);
  }
}

TEST(JpegTest, CmykWithoutAdobesMarkerIsNotInverted) {
  std::string bytes = EncodeJpeg(8, 8, 4, std::vector<uint8_t>(256, 51), {.from = JCS_CMYK, .to = JCS_CMYK});
  const size_t adobe = bytes.find("Adobe");
  ASSERT_NE(adobe, std::string::npos);
  bytes.erase(adobe - 4, 16);  // marker and length before it, 12 bytes of its own
  const int expected = (255 - 51) * (255 - 51) / 255;
  EXPECT_NEAR(Decoded(bytes).pixels[0], expected, 2);
}

TEST(JpegTest, EveryPrefixIsBroken) {
  for (const bool progressive : {false, true}) {
    const std::string bytes = EncodeJpeg(Picture(24, 40), {.progressive = progressive});
    for (size_t size = 0; size < bytes.size(); ++size) {
      ASSERT_NE(Reason(bytes.substr(0, size)), "none") << size << " of " << bytes.size() << " bytes";
    }
    Decoded(bytes + "what follows the end is not the image's");
  }
}

TEST(JpegTest, ATruncatedOneIsNamedSo) {
  const std::string bytes = EncodeJpeg(Picture(24, 40));
  EXPECT_THAT(Reason(bytes.substr(0, bytes.size() - 20)), HasSubstr("broken JPEG: Premature end of JPEG file"));
}

TEST(JpegTest, JunkBetweenHeadersIsHarmless) {
  std::string bytes = EncodeJpeg(Picture(24, 40));
  const Image whole = Decoded(bytes);
  bytes.insert(bytes.find("\xff\xdb"), "junk");
  EXPECT_EQ(Decoded(bytes), whole);
}

TEST(JpegTest, ZerosInTheDataAreDamage) {
  std::string bytes = EncodeJpeg(Picture(80, 80), {.restart_interval = 1});
  const size_t scan = bytes.find("\xff\xda");
  std::fill(bytes.begin() + scan + 40, bytes.begin() + scan + 240, '\0');
  EXPECT_THAT(Reason(bytes), HasSubstr("broken JPEG: Corrupt JPEG data"));
}

// Sets height and width in the frame header (SOF0 or SOF2).
std::string WithJpegSize(std::string bytes, int height, int width) {
  size_t frame = bytes.find("\xff\xc0");
  if (frame == std::string::npos) frame = bytes.find("\xff\xc2");
  const int sides[] = {height, width};
  for (int i = 0; i < 2; ++i) {
    bytes[frame + 5 + 2 * i] = static_cast<char>(sides[i] >> 8);
    bytes[frame + 6 + 2 * i] = static_cast<char>(sides[i] & 255);
  }
  return bytes;
}

TEST(JpegTest, BombsAreRefused) {
  const std::string baseline = EncodeJpeg(Picture(16, 16)),
                    progressive = EncodeJpeg(Picture(16, 16), {.progressive = true});
  EXPECT_THAT(Reason(WithJpegSize(baseline, 65500, 65500)), HasSubstr("65500x65500 is more than 268435456 pixels"));
  // Within the limit, but there is no data for it.
  EXPECT_NE(Reason(WithJpegSize(baseline, 16384, 16384)), "none");
  EXPECT_NE(Reason(WithJpegSize(progressive, 16384, 16384)), "none");
}

TEST(JpegTest, EndlessScansAreRefused) {
  std::string bytes = EncodeJpeg(Picture(16, 16), {.progressive = true});
  const size_t scan = bytes.find("\xff\xda", bytes.find("\xff\xda") + 1);  // the first refining one, with its tables
  const size_t next = bytes.find("\xff\xda", scan + 1);
  const std::string repeated = bytes.substr(scan, next - scan);
  std::string scans;
  for (int i = 0; i < 2000; ++i) scans += repeated;
  bytes.insert(next, scans);
  EXPECT_NE(Reason(bytes), "none");
}

TEST(PngTest, DecodesRgbAndItsDepths) {
  const Image picture = Picture(19, 23);
  EXPECT_EQ(Decoded(EncodePng(19, 23, picture.pixels)), picture);
  EXPECT_EQ(Decoded(EncodePng(19, 23, picture.pixels, {.interlaced = true})), picture);
  std::vector<uint8_t> wide;
  for (const uint8_t value : picture.pixels) wide.insert(wide.end(), 2, value);  // v·257 is v of 8 bits
  EXPECT_EQ(Decoded(EncodePng(19, 23, wide, {.bits = 16})), picture);
  wide.assign({0x80, 0x7f, 0x80, 0x81, 0x00, 0x81});  // 128.0, 128.0 and 0.5 of 255, rounded
  EXPECT_EQ(Decoded(EncodePng(1, 1, wide, {.bits = 16})).pixels, (std::vector<uint8_t>{128, 128, 1}));
}

TEST(PngTest, GreyOfEveryDepthIsReplicated) {
  EXPECT_EQ(Decoded(EncodePng(1, 2, {0b10000000}, {.bits = 1, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (std::vector<uint8_t>{255, 255, 255, 0, 0, 0}));
  EXPECT_EQ(Decoded(EncodePng(1, 2, {0b01100000}, {.bits = 2, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (std::vector<uint8_t>{85, 85, 85, 170, 170, 170}));
  EXPECT_EQ(Decoded(EncodePng(1, 1, {9}, {.bits = 8, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (std::vector<uint8_t>{9, 9, 9}));
  EXPECT_EQ(Decoded(EncodePng(1, 1, {200, 200}, {.bits = 16, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (std::vector<uint8_t>{200, 200, 200}));
}

TEST(PngTest, TransparencyIsLaidOverBlack) {
  for (const bool interlaced : {false, true}) {
    EXPECT_EQ(Decoded(EncodePng(2, 1, {255, 100, 50, 51, 10, 20, 30, 255},
                                {.colour_type = PNG_COLOR_TYPE_RGB_ALPHA, .interlaced = interlaced}))
                  .pixels,
              (std::vector<uint8_t>{51, 20, 10, 10, 20, 30}));
    EXPECT_EQ(Decoded(EncodePng(1, 1, {200, 102}, {.colour_type = PNG_COLOR_TYPE_GRAY_ALPHA, .interlaced = interlaced}))
                  .pixels,
              (std::vector<uint8_t>{80, 80, 80}));
  }
  EXPECT_EQ(Decoded(EncodePng(1, 2, {77, 78}, {.colour_type = PNG_COLOR_TYPE_GRAY, .transparent_grey = 77})).pixels,
            (std::vector<uint8_t>{0, 0, 0, 78, 78, 78}));
}

TEST(PngTest, PalettesAreLookedUp) {
  const PngOptions opaque{.bits = 4, .colour_type = PNG_COLOR_TYPE_PALETTE, .palette = {{1, 2, 3}, {200, 100, 50}}};
  EXPECT_EQ(Decoded(EncodePng(1, 3, {0x10, 0x10}, opaque)).pixels,
            (std::vector<uint8_t>{200, 100, 50, 1, 2, 3, 200, 100, 50}));
  PngOptions translucent = opaque;
  translucent.palette_alpha = {255, 51};
  EXPECT_EQ(Decoded(EncodePng(1, 2, {0x10}, translucent)).pixels, (std::vector<uint8_t>{40, 20, 10, 1, 2, 3}));
}

TEST(PngTest, EveryPrefixIsBroken) {
  for (const bool interlaced : {false, true}) {
    const std::string bytes = EncodePng(11, 17, Picture(11, 17).pixels, {.interlaced = interlaced});
    for (size_t size = 0; size < bytes.size(); ++size) {
      ASSERT_NE(Reason(bytes.substr(0, size)), "none") << size << " of " << bytes.size() << " bytes";
    }
    EXPECT_THAT(Reason(bytes.substr(0, bytes.size() / 2)), HasSubstr("broken PNG: the file ends too early"));
    Decoded(bytes + "what follows the end is not the image's");
  }
}

TEST(PngTest, EveryFlippedBitIsNoticedOrHarmless) {
  const Image picture = Picture(9, 13);
  const std::string bytes = EncodePng(9, 13, picture.pixels);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const absl::StatusOr<Image> image = DecodeImage(flipped);
    if (image.ok()) EXPECT_EQ(*image, picture) << "bit " << bit;
  }
}

// Of a chunk's type and data: CRC-32, bit by bit as in the specification's appendix D.
uint32_t PngCrc(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

TEST(PngTest, BombsAreRefused) {
  const std::string small = EncodePng(1, 1, {0, 0, 0});
  const auto with_size = [&small](uint32_t height, uint32_t width) {
    std::string bytes = small;
    for (int i = 0; i < 4; ++i) {
      bytes[16 + i] = static_cast<char>(width >> (24 - 8 * i));
      bytes[20 + i] = static_cast<char>(height >> (24 - 8 * i));
    }
    const uint32_t crc = PngCrc(std::string_view(bytes).substr(12, 17));
    for (int i = 0; i < 4; ++i) bytes[29 + i] = static_cast<char>(crc >> (24 - 8 * i));
    return bytes;
  };
  EXPECT_THAT(Reason(with_size(20000, 20000)), HasSubstr("20000x20000 is more than 2^28 pixels"));
  EXPECT_THAT(Reason(with_size(2147483647, 2147483647)), HasSubstr("is more than 2^28 pixels"));
  // Within the limit, but there is no data for it.
  EXPECT_NE(Reason(with_size(16384, 16384)), "none");
  EXPECT_NE(Reason(with_size(0, 5)), "none");
}

// Damage anywhere: an error or some image of a sensible size, never a crash.
TEST(DecodeTest, SurvivesRandomDamage) {
  const Image picture = Picture(24, 40);
  const std::vector<std::string> originals = {
      EncodeJpeg(picture), EncodeJpeg(picture, {.progressive = true}), EncodeJpeg(picture, {.arithmetic = true}),
      EncodePng(24, 40, picture.pixels), EncodePng(24, 40, picture.pixels, {.interlaced = true})};
  for (size_t k = 0; k < originals.size(); ++k) {
    for (uint64_t trial = 0; trial < 1000; ++trial) {
      Draws draws({k, trial});
      std::string bytes = originals[k];
      for (int64_t changes = draws.Below(4); changes >= 0; --changes) {
        bytes[draws.Below(static_cast<int64_t>(bytes.size()))] = static_cast<char>(draws.Below(256));
      }
      if (draws.Bernoulli(0.2)) bytes.erase(draws.Below(static_cast<int64_t>(bytes.size())), draws.Below(20));
      const absl::StatusOr<Image> image = DecodeImage(bytes);
      if (image.ok()) EXPECT_EQ(static_cast<int64_t>(image->pixels.size()), 3 * image->height * image->width);
    }
  }
}

TEST(DecodeTest, NamesOtherFormats) {
  EXPECT_THAT(Reason(""), HasSubstr("empty"));
  EXPECT_THAT(Reason("GIF89a..."), HasSubstr("neither a JPEG nor a PNG but a GIF file"));
  EXPECT_THAT(Reason(std::string("RIFF\0\0\0\0WEBPVP8 ", 16)), HasSubstr("but a WebP file"));
  EXPECT_THAT(Reason(std::string("MM\0*....", 8)), HasSubstr("but a TIFF file"));
  EXPECT_THAT(Reason("hello, world"), HasSubstr("the file begins with \"hello, w\""));
  EXPECT_THAT(Reason(std::string("\x01\x02", 2)), HasSubstr("begins with \"\\x01\\x02\""));
  EXPECT_EQ(DecodeImage("GIF89a").status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace graticule
