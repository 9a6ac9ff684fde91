#include "data/decode/decode.h"

#include <png.h>
#include <webp/encode.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>
// clang-format off: needs the lines before it
#include <jpeglib.h>
// clang-format on

#include "absl/status/status.h"
#include "data/decode/test_files.h"
#include "data/decode/test_jpeg.h"
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
  J_COLOR_SPACE to = JCS_YCbCr;
  bool progressive = false;
  bool arithmetic = false;
  int restart_interval = 0;
};

// `values` are tight rows of grey, RGB or CMYK.
std::string EncodeJpeg(int64_t height, int64_t width, int channels, Pixels values, JpegOptions options = {}) {
  return JpegFile(height, width, channels, std::move(values), [&options](jpeg_compress_struct& jpeg) {
    jpeg_set_colorspace(&jpeg, options.to);
    jpeg_set_quality(&jpeg, 98, TRUE);
    jpeg.arith_code = options.arithmetic;
    jpeg.restart_interval = options.restart_interval;
    if (options.progressive) jpeg_simple_progression(&jpeg);
  });
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
std::string EncodePng(int64_t height, int64_t width, Pixels rows, const PngOptions& options = {}) {
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

std::string EncodeWebp(const Image& image) {
  uint8_t* buffer = nullptr;
  const size_t size = WebPEncodeLosslessRGB(image.pixels.data(), static_cast<int>(image.width),
                                            static_cast<int>(image.height), static_cast<int>(3 * image.width), &buffer);
  std::string bytes(reinterpret_cast<char*>(buffer), size);
  WebPFree(buffer);
  return bytes;
}

Image Decoded(std::string_view bytes, const DecodeOptions& options = {}) {
  const absl::StatusOr<Image> image = DecodeImage(bytes, options);
  EXPECT_TRUE(image.ok()) << image.status();
  return image.ok() ? *image : Image{};
}

std::string Reason(std::string_view bytes, const DecodeOptions& options = {}) {
  const absl::StatusOr<Image> image = DecodeImage(bytes, options);
  return image.ok() ? "none" : std::string(image.status().message());
}

absl::StatusCode Code(std::string_view bytes) { return DecodeImage(bytes).status().code(); }

std::string FileBytes(const std::string& name) {
  std::ifstream file("data/decode/testdata/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string BigEndian(uint64_t value, int size) {
  std::string bytes;
  for (int i = size - 1; i >= 0; --i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

std::string LittleEndian(uint64_t value, int size) {
  const std::string bytes = BigEndian(value, size);
  return {bytes.rbegin(), bytes.rend()};
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
  Pixels grey;
  Image expected{20, 30, {}};
  for (int i = 0; i < 600; ++i) {
    grey.push_back(static_cast<uint8_t>(i / 4));
    expected.pixels.insert(expected.pixels.end(), 3, grey.back());
  }
  const Image image = Decoded(EncodeJpeg(20, 30, 1, grey, {.to = JCS_GRAYSCALE}));
  ExpectNear(image, expected, 8);
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    ASSERT_EQ(image.pixels[i], image.pixels[i + 1]);
    ASSERT_EQ(image.pixels[i], image.pixels[i + 2]);
  }
}

// libjpeg writes an Adobe marker with CMYK and YCCK, and Adobe's values are inverted: 255 is no ink.
TEST(JpegTest, CmykAndYcckAreInkOverWhite) {
  Pixels cmyk;
  for (int i = 0; i < 16 * 16; ++i) {
    for (const int value : {204, 102, 255, 51}) cmyk.push_back(static_cast<uint8_t>(value));
  }
  // Light that cyan, magenta and yellow let pass, times that of black.
  const Image expected{1, 1, {204 * 51 / 255, 102 * 51 / 255, 255 * 51 / 255}};
  for (const J_COLOR_SPACE to : {JCS_CMYK, JCS_YCCK}) {
    const Image image = Decoded(EncodeJpeg(16, 16, 4, cmyk, {.to = to}));
    ASSERT_EQ(image.pixels.size(), 3u * 16 * 16);
    ExpectNear({1, 1, {image.pixels.begin() + 300, image.pixels.begin() + 303}}, expected, 2);
  }
}

TEST(JpegTest, CmykWithoutAdobesMarkerIsNotInverted) {
  std::string bytes = EncodeJpeg(8, 8, 4, Pixels(256, 51), {.to = JCS_CMYK});
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
  EXPECT_THAT(Reason(WithJpegSize(baseline, 65500, 65500)), HasSubstr("65500x65500 is more than 67108864 pixels"));
  // Within the limit, but there is no data for it.
  EXPECT_NE(Reason(WithJpegSize(baseline, 16384, 16384)), "none");
  EXPECT_NE(Reason(WithJpegSize(progressive, 16384, 16384)), "none");
}

// A progressive image takes more than its pixels.
TEST(JpegTest, MemoryFollowsMaxPixels) {
  const std::string cmyk = EncodeJpeg(1200, 1000, 4, Pixels(4 * 1200 * 1000, 0), {.to = JCS_CMYK, .progressive = true});
  EXPECT_THAT(Reason(cmyk, {.max_pixels = 1200000}), HasSubstr("its coefficients take more memory than max_pixels"));
  EXPECT_THAT(Reason(cmyk, {.max_pixels = 1199999}), HasSubstr("1200x1000 is more than 1199999 pixels"));
  Decoded(cmyk, {.max_pixels = 2400000});
  for (const int64_t side : {1, 9, 17, 40}) {
    const std::string small = EncodeJpeg(Picture(side, side), {.progressive = true});
    ExpectNear(Decoded(small, {.max_pixels = side * side}), Picture(side, side), 6);
  }
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
  Pixels wide;
  for (const uint8_t value : picture.pixels) wide.insert(wide.end(), 2, value);  // v·257 is v of 8 bits
  EXPECT_EQ(Decoded(EncodePng(19, 23, wide, {.bits = 16})), picture);
  wide.assign({0x80, 0x7f, 0x80, 0x81, 0x00, 0x81});  // 128.0, 128.0 and 0.5 of 255, rounded
  EXPECT_EQ(Decoded(EncodePng(1, 1, wide, {.bits = 16})).pixels, (Pixels{128, 128, 1}));
}

TEST(PngTest, GreyOfEveryDepthIsReplicated) {
  EXPECT_EQ(Decoded(EncodePng(1, 2, {0b10000000}, {.bits = 1, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (Pixels{255, 255, 255, 0, 0, 0}));
  EXPECT_EQ(Decoded(EncodePng(1, 2, {0b01100000}, {.bits = 2, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (Pixels{85, 85, 85, 170, 170, 170}));
  EXPECT_EQ(Decoded(EncodePng(1, 1, {9}, {.bits = 8, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels, (Pixels{9, 9, 9}));
  EXPECT_EQ(Decoded(EncodePng(1, 1, {200, 200}, {.bits = 16, .colour_type = PNG_COLOR_TYPE_GRAY})).pixels,
            (Pixels{200, 200, 200}));
}

TEST(PngTest, TransparencyIsLaidOverBlack) {
  for (const bool interlaced : {false, true}) {
    EXPECT_EQ(Decoded(EncodePng(2, 1, {255, 100, 50, 51, 10, 20, 30, 255},
                                {.colour_type = PNG_COLOR_TYPE_RGB_ALPHA, .interlaced = interlaced}))
                  .pixels,
              (Pixels{51, 20, 10, 10, 20, 30}));
    EXPECT_EQ(Decoded(EncodePng(1, 1, {200, 102}, {.colour_type = PNG_COLOR_TYPE_GRAY_ALPHA, .interlaced = interlaced}))
                  .pixels,
              (Pixels{80, 80, 80}));
  }
  EXPECT_EQ(Decoded(EncodePng(1, 2, {77, 78}, {.colour_type = PNG_COLOR_TYPE_GRAY, .transparent_grey = 77})).pixels,
            (Pixels{0, 0, 0, 78, 78, 78}));
}

TEST(PngTest, TransparencyIsLaidOverTheBackground) {
  const DecodeOptions options{.background = {250, 100, 0}};
  const auto blend = [](int colour, int alpha, int behind) {
    return static_cast<uint8_t>((colour * alpha + behind * (255 - alpha)) / 255.0 + 0.5);
  };
  for (const bool interlaced : {false, true}) {
    EXPECT_EQ(Decoded(EncodePng(1, 3, {255, 100, 50, 51, 10, 20, 30, 255, 9, 9, 9, 0},
                                {.colour_type = PNG_COLOR_TYPE_RGB_ALPHA, .interlaced = interlaced}),
                      options)
                  .pixels,
              (Pixels{blend(255, 51, 250), blend(100, 51, 100), blend(50, 51, 0), 10, 20, 30, 250, 100, 0}));
    // Of 16 bits, 0x3333 of 0xffff is 51 of 255.
    EXPECT_EQ(Decoded(EncodePng(1, 1, {200, 200, 0x33, 0x33},
                                {.bits = 16, .colour_type = PNG_COLOR_TYPE_GRAY_ALPHA, .interlaced = interlaced}),
                      options)
                  .pixels,
              (Pixels{blend(200, 51, 250), blend(200, 51, 100), blend(200, 51, 0)}));
  }
  // A transparent colour of 16 bits is compared with all of them.
  EXPECT_EQ(Decoded(EncodePng(1, 2, {1, 200, 1, 201},
                              {.bits = 16, .colour_type = PNG_COLOR_TYPE_GRAY, .transparent_grey = 456}),
                    options)
                .pixels,
            (Pixels{250, 100, 0, 2, 2, 2}));
}

TEST(PngTest, InterlacedOfEverySmallSizeIsTheSame) {
  for (int64_t height = 1; height <= 9; ++height) {
    for (int64_t width = 1; width <= 9; ++width) {
      const Image picture = Picture(height, width);
      ASSERT_EQ(Decoded(EncodePng(height, width, picture.pixels, {.interlaced = true})), picture)
          << height << "x" << width;
    }
  }
}

TEST(PngTest, PalettesAreLookedUp) {
  const PngOptions opaque{.bits = 4, .colour_type = PNG_COLOR_TYPE_PALETTE, .palette = {{1, 2, 3}, {200, 100, 50}}};
  EXPECT_EQ(Decoded(EncodePng(1, 3, {0x10, 0x10}, opaque)).pixels, (Pixels{200, 100, 50, 1, 2, 3, 200, 100, 50}));
  PngOptions translucent = opaque;
  translucent.palette_alpha = {255, 51};
  EXPECT_EQ(Decoded(EncodePng(1, 2, {0x10}, translucent)).pixels, (Pixels{40, 20, 10, 1, 2, 3}));
}

TEST(PngTest, EveryPrefixEndsTooEarly) {
  for (const bool interlaced : {false, true}) {
    const std::string bytes = EncodePng(11, 17, Picture(11, 17).pixels, {.interlaced = interlaced});
    for (size_t size = 8; size < bytes.size(); ++size) {
      ASSERT_EQ(Code(bytes.substr(0, size)), absl::StatusCode::kOutOfRange) << size << " of " << bytes.size();
    }
    EXPECT_THAT(Reason(bytes.substr(0, bytes.size() / 2)), HasSubstr("broken PNG: the file ends too early"));
    Decoded(bytes + "what follows the end is not the image's");
  }
}

// What was decoded of an image is its upper part, the rest is grey: how many rows are whole, if so.
std::optional<int64_t> KeptRows(const Image& kept, const Image& whole) {
  const int64_t row_bytes = 3 * whole.width;
  int64_t rows = 0;
  while (rows < whole.height && std::equal(&kept.pixels[rows * row_bytes], &kept.pixels[rows * row_bytes] + row_bytes,
                                           &whole.pixels[rows * row_bytes])) {
    ++rows;
  }
  const bool grey = std::all_of(kept.pixels.begin() + rows * row_bytes, kept.pixels.end(),
                                [](uint8_t value) { return value == 128; });
  return grey ? std::optional(rows) : std::nullopt;
}

// Noise, so that the rows spread over the file.
Image Noise(int64_t height, int64_t width) {
  Image image{height, width, Pixels(3 * height * width)};
  Draws draws({1});
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(draws.Below(256));
  return image;
}

TEST(PngTest, WhatWasDecodedOfATruncatedOneIsKept) {
  const Image noise = Noise(60, 50);
  const std::string bytes = EncodePng(60, 50, noise.pixels);
  for (const double part : {0.25, 0.5, 0.75}) {
    const Image kept = Decoded(bytes.substr(0, bytes.size() * part), {.keep_truncated = true});
    ASSERT_EQ(kept.size(), noise.size());
    EXPECT_NEAR(KeptRows(kept, noise).value_or(-1), 60 * part, 2);
  }
  EXPECT_EQ(Decoded(bytes.substr(0, bytes.size() - 4), {.keep_truncated = true}), noise);
  EXPECT_THAT(Reason(bytes.substr(0, 50), {.keep_truncated = true}), HasSubstr("ends too early"));

  const std::string interlaced = EncodePng(60, 50, noise.pixels, {.interlaced = true});
  const Image kept = Decoded(interlaced.substr(0, interlaced.size() / 2), {.keep_truncated = true});
  int64_t decoded = 0, others = 0;
  for (size_t i = 0; i < kept.pixels.size(); ++i) {
    if (kept.pixels[i] == noise.pixels[i]) {
      ++decoded;
    } else if (kept.pixels[i] != 128) {
      ++others;
    }
  }
  EXPECT_NEAR(decoded, 60 * 50 * 3 / 2, 400);
  EXPECT_EQ(others, 0);
  // Damage is not an end.
  std::string damaged = bytes;
  damaged[bytes.size() / 2] ^= 1;
  EXPECT_NE(Reason(damaged, {.keep_truncated = true}), "none");
  EXPECT_EQ(Code(damaged), absl::StatusCode::kDataLoss);
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

std::string PngChunk(const std::string& type, const std::string& data) {
  return BigEndian(data.size(), 4) + type + data + BigEndian(PngCrc(type + data), 4);
}

// Puts a chunk after the header.
std::string WithPngChunk(std::string bytes, const std::string& type, const std::string& data) {
  return bytes.insert(33, PngChunk(type, data));
}

TEST(PngTest, BombsAreRefused) {
  const auto with_size = [](uint32_t height, uint32_t width) {
    std::string bytes = EncodePng(1, 1, {0, 0, 0});
    const std::string header = BigEndian(width, 4) + BigEndian(height, 4) + bytes.substr(24, 5);
    return bytes.replace(8, 25, PngChunk("IHDR", header));
  };
  EXPECT_THAT(Reason(with_size(20000, 20000)), HasSubstr("20000x20000 is more than 67108864 pixels"));
  EXPECT_THAT(Reason(with_size(2147483647, 2147483647)), HasSubstr("is more than 67108864 pixels"));
  EXPECT_THAT(Reason(with_size(1, 2000000)), HasSubstr("its 2000000 columns are more than 1048576"));
  EXPECT_THAT(Reason(with_size(10, 11), {.max_pixels = 109}), HasSubstr("10x11 is more than 109 pixels"));
  // Within the limit, but there is no data for it.
  EXPECT_NE(Reason(with_size(8192, 8192)), "none");
  EXPECT_NE(Reason(with_size(0, 5)), "none");
}

TEST(PngTest, TextsAndProfilesAreNotRead) {
  const Image picture = Picture(4, 5);
  std::string bytes = EncodePng(4, 5, picture.pixels);
  bytes = WithPngChunk(bytes, "iCCP", std::string("profile\0\0not compressed", 24));
  for (int i = 0; i < 3000; ++i) bytes = WithPngChunk(bytes, "zTXt", std::string("text\0\0not compressed", 21));
  EXPECT_EQ(Decoded(bytes), picture);
}

std::string RiffChunk(const std::string& type, const std::string& data) {
  return type + LittleEndian(data.size(), 4) + data + std::string(data.size() % 2, '\0');
}

// A WebP file of the extended format.
std::string ExtendedWebp(char flags, Size2d canvas, const std::string& chunks) {
  const std::string header =
      flags + std::string(3, '\0') + LittleEndian(canvas.width - 1, 3) + LittleEndian(canvas.height - 1, 3);
  return RiffChunk("RIFF", "WEBP" + RiffChunk("VP8X", header) + chunks);
}

constexpr char kWebpExif = 8, kWebpAnimated = 2;

TEST(WebpTest, LosslessIsExact) {
  for (const Image& image : {Picture(37, 53), Noise(20, 31), Picture(1, 1)}) {
    EXPECT_EQ(Decoded(EncodeWebp(image)), image);
  }
}

// Of an animation, for a tenth of a second.
std::string WebpFrame(const Image& image, int64_t top, int64_t left) {
  return RiffChunk("ANMF", LittleEndian(left / 2, 3) + LittleEndian(top / 2, 3) + LittleEndian(image.width - 1, 3) +
                               LittleEndian(image.height - 1, 3) + LittleEndian(100, 3) + std::string(1, '\0') +
                               EncodeWebp(image).substr(12));
}

TEST(WebpTest, TheFirstFrameOfAnAnimationLiesOnTheBackground) {
  const Image picture = Picture(5, 6);
  const auto frame = [&picture](int64_t top, int64_t left) { return WebpFrame(picture, top, left); };
  const std::string start = RiffChunk("ANIM", std::string(6, '\0'));
  const Image decoded =
      Decoded(ExtendedWebp(kWebpAnimated, {9, 12}, start + frame(2, 4) + frame(0, 0)), {.background = {7, 8, 9}});
  ASSERT_EQ(decoded.size(), (Size2d{9, 12}));
  for (int64_t y = 0; y < 9; ++y) {
    for (int64_t x = 0; x < 12; ++x) {
      const bool inside = y >= 2 && y < 7 && x >= 4 && x < 10;
      for (int64_t c = 0; c < 3; ++c) {
        const uint8_t expected = inside ? picture.pixels[3 * ((y - 2) * 6 + x - 4) + c] : 7 + c;
        ASSERT_EQ(decoded.pixels[3 * (12 * y + x) + c], expected) << y << ", " << x;
      }
    }
  }
  // A frame outside of its canvas.
  EXPECT_EQ(Code(ExtendedWebp(kWebpAnimated, {9, 12}, start + frame(6, 4))), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Code(ExtendedWebp(kWebpAnimated, {9, 12}, start)), absl::StatusCode::kDataLoss);
}

TEST(WebpTest, EveryPrefixEndsTooEarly) {
  for (const std::string& bytes : {EncodeWebp(Picture(11, 17)), FileBytes("lossy.webp"), FileBytes("lossy_alpha.webp"),
                                   FileBytes("animation.webp")}) {
    for (size_t size = 12; size < bytes.size(); ++size) {
      ASSERT_EQ(Code(bytes.substr(0, size)), absl::StatusCode::kOutOfRange) << size << " of " << bytes.size();
    }
    EXPECT_THAT(Reason(bytes.substr(0, bytes.size() / 2)), HasSubstr("broken WebP: the file ends too early"));
    Decoded(bytes + "what follows the end is not the image's");
  }
}

TEST(WebpTest, WhatWasDecodedOfATruncatedOneIsKept) {
  const Image noise = Noise(60, 50);
  const std::string bytes = EncodeWebp(noise);
  for (const double part : {0.5, 0.75}) {
    const Image kept = Decoded(bytes.substr(0, bytes.size() * part), {.keep_truncated = true});
    ASSERT_EQ(kept.size(), noise.size());
    EXPECT_NEAR(KeptRows(kept, noise).value_or(-1), 60 * part, 16);  // libwebp hands out 16 rows at a time
  }
  EXPECT_THAT(Reason(bytes.substr(0, 30), {.keep_truncated = true}), HasSubstr("ends too early"));
  // What is whole but for the data behind the image.
  const std::string lossy = FileBytes("lossy.webp");
  EXPECT_EQ(Decoded(lossy.substr(0, lossy.size() - 4), {.keep_truncated = true}), Decoded(lossy));
}

TEST(WebpTest, DamageAndBombsAreRefused) {
  std::string bytes = EncodeWebp(Picture(11, 17));
  EXPECT_THAT(Reason(bytes, {.max_pixels = 186}), HasSubstr("11x17 is more than 186 pixels"));
  std::fill(bytes.begin() + 30, bytes.end(), '\xff');
  EXPECT_NE(Reason(bytes), "none");
  const Image small = Picture(5, 6);
  const std::string animation = RiffChunk("ANIM", std::string(6, '\0')) + WebpFrame(small, 0, 0);
  EXPECT_THAT(Reason(ExtendedWebp(kWebpAnimated, {1 << 14, 1 << 14}, animation)),
              HasSubstr("16384x16384 is more than 67108864 pixels"));
  // The canvas of another size than the image on it.
  EXPECT_EQ(Code(ExtendedWebp(0, {6, 6}, EncodeWebp(small).substr(12))), absl::StatusCode::kDataLoss);
}

// What Pillow decodes of files that tools/parity/make_decode_fixtures.py makes, upright and over a background.
TEST(DecodeTest, IsPillows) {
  const DecodeOptions options{.exif_orientation = true, .background = {200, 100, 50}};
  for (const std::string name : {"baseline.jpg", "progressive.jpg", "rgb.png", "palette.png", "interlaced_alpha.png",
                                 "lossy.webp", "lossy_alpha.webp", "lossless_alpha.webp", "animation.webp"}) {
    SCOPED_TRACE(name);
    ExpectNear(Decoded(FileBytes(name), options), Decoded(FileBytes(name + ".expected.png")), 1);
  }
}

// The tag of a TIFF file without pictures, among others.
std::string Exif(bool little, int type, int orientation) {
  const auto number = [little](uint64_t value, int size) {
    return little ? LittleEndian(value, size) : BigEndian(value, size);
  };
  const std::string other = number(0x010f, 2) + number(2, 2) + number(4, 4) + "abc" + std::string(1, '\0');
  return (little ? "II" : "MM") + number(42, 2) + number(8, 4) + number(2, 2) + other + number(0x0112, 2) +
         number(type, 2) + number(1, 4) + number(orientation, 2) + number(0, 2) + number(0, 4);
}

std::string JpegWithExif(std::string bytes, const std::string& exif) {
  const std::string segment = std::string("Exif\0\0", 6) + exif;
  return bytes.insert(2, "\xff\xe1" + BigEndian(segment.size() + 2, 2) + segment);
}

// As the standard describes the values: at which side of the scene the stored picture's row 0 and column 0 are.
struct Sides {
  char row, column;
};
constexpr Sides kOrientations[] = {{'T', 'L'}, {'T', 'R'}, {'B', 'R'}, {'B', 'L'},
                                   {'L', 'T'}, {'R', 'T'}, {'R', 'B'}, {'L', 'B'}};

Image StoredAs(const Image& scene, Sides sides) {
  const bool turned = sides.row == 'L' || sides.row == 'R';
  Image stored{turned ? scene.width : scene.height, turned ? scene.height : scene.width, {}};
  for (int64_t row = 0; row < stored.height; ++row) {
    for (int64_t column = 0; column < stored.width; ++column) {
      int64_t y = 0, x = 0;
      for (const auto& [side, distance] : {std::pair(sides.row, row), std::pair(sides.column, column)}) {
        if (side == 'T') y = distance;
        if (side == 'B') y = scene.height - 1 - distance;
        if (side == 'L') x = distance;
        if (side == 'R') x = scene.width - 1 - distance;
      }
      const auto pixel = scene.pixels.begin() + 3 * (y * scene.width + x);
      stored.pixels.insert(stored.pixels.end(), pixel, pixel + 3);
    }
  }
  return stored;
}

TEST(ExifTest, EveryOrientationIsPutUpright) {
  const Image scene = Noise(11, 6);
  const Box window{2, 1, {7, 3}};
  const DecodeOptions upright{.exif_orientation = true};
  for (int k = 1; k <= 8; ++k) {
    const Image stored = StoredAs(scene, kOrientations[k - 1]);
    const std::string exif = Exif(k % 2 == 0, 3, k);
    const std::string webp = EncodeWebp(stored).substr(12), png = EncodePng(stored.height, stored.width, stored.pixels);
    for (const std::string& bytes :
         {WithPngChunk(png, "eXIf", exif), ExtendedWebp(kWebpExif, stored.size(), webp + RiffChunk("EXIF", exif)),
          ExtendedWebp(kWebpExif, stored.size(), webp + RiffChunk("EXIF", std::string("Exif\0\0", 6) + exif))}) {
      EXPECT_EQ(Decoded(bytes), stored) << k;
      EXPECT_EQ(Decoded(bytes, upright), scene) << k;
      const absl::StatusOr<DecodedRegion> region = DecodeRegion(bytes, upright, [&](Size2d size) {
        EXPECT_EQ(size, scene.size());
        return std::optional(WantedRegion{window, window.size});
      });
      ASSERT_TRUE(region.ok()) << region.status();
      EXPECT_EQ(Cut(region->image, region->window), Cut(scene, window)) << k;
    }
    // A JPEG's blocks make other pixels of a turned picture; the smooth one hardly shows it.
    const Image smooth = Picture(40, 24);
    const std::string jpeg = JpegWithExif(EncodeJpeg(StoredAs(smooth, kOrientations[k - 1])), exif);
    ExpectNear(Decoded(jpeg, upright), smooth, 6);
    const Box part{3, 5, {30, 11}};
    const absl::StatusOr<DecodedRegion> region = DecodeRegion(jpeg, upright, [&](Size2d size) {
      EXPECT_EQ(size, smooth.size());
      return std::optional(WantedRegion{part, part.size});
    });
    ASSERT_TRUE(region.ok()) << region.status();
    EXPECT_EQ(Cut(region->image, region->window), Cut(Decoded(jpeg, upright), part)) << k;
  }
}

TEST(ExifTest, WhatIsNoOrientationIsIgnored) {
  const Image picture = Picture(16, 24);
  const std::string bytes = EncodeJpeg(picture);
  const Image stored = Decoded(bytes);
  const DecodeOptions upright{.exif_orientation = true};
  const std::string good = Exif(true, 3, 6);
  EXPECT_NE(Decoded(JpegWithExif(bytes, good), upright), stored);
  for (const std::string& exif :
       {Exif(true, 3, 0), Exif(false, 3, 9), Exif(true, 2, 6), std::string(), std::string("II")}) {
    EXPECT_EQ(Decoded(JpegWithExif(bytes, exif), upright), stored);
  }
  for (size_t size = 0; size < 32; ++size) {
    EXPECT_EQ(Decoded(JpegWithExif(bytes, good.substr(0, size)), upright), stored) << size;
  }
  // A directory far outside of the block.
  std::string outside = good;
  outside.replace(4, 4, "\xfe\xff\xff\xff");
  EXPECT_EQ(Decoded(JpegWithExif(bytes, outside), upright), stored);
  EXPECT_EQ(Decoded(bytes, upright), stored);
}

TEST(DecodeOptionsTest, ComeFromTheConfig) {
  FieldErrors errors;
  Decoding config;
  DecodeOptions options = DecodeOptions::From(config, errors);
  EXPECT_FALSE(options.exif_orientation);
  EXPECT_FALSE(options.keep_truncated);
  EXPECT_EQ(options.max_pixels, 1 << 26);
  EXPECT_EQ(options.background, (std::array<uint8_t, 3>{0, 0, 0}));
  config.set_exif_orientation(true);
  config.set_truncated(Decoding::KEEP);
  config.set_max_pixels(1 << 28);
  for (const int value : {0, 128, 255}) config.add_background(value);
  options = DecodeOptions::From(config, errors);
  EXPECT_TRUE(options.exif_orientation);
  EXPECT_TRUE(options.keep_truncated);
  EXPECT_EQ(options.max_pixels, 1 << 28);
  EXPECT_EQ(options.background, (std::array<uint8_t, 3>{0, 128, 255}));
  EXPECT_TRUE(errors.empty());

  config.set_max_pixels((1 << 28) + 1);
  config.set_background(1, 256);
  DecodeOptions::From(config, errors);
  config.set_max_pixels(-1);
  config.mutable_background()->Truncate(2);
  config.set_background(1, 0);
  DecodeOptions::From(config, errors);
  const std::string message(errors.ToStatus().message());
  EXPECT_THAT(message, HasSubstr("must be 1 to 268435456, found 268435457"));
  EXPECT_THAT(message, HasSubstr("background[1]"));
  EXPECT_THAT(message, HasSubstr("must be 1 to 268435456, found -1"));
  EXPECT_THAT(message, HasSubstr("must have three numbers (R, G, B), found 2"));
}

// Damage anywhere: an error or some image of a sensible size, never a crash.
TEST(DecodeTest, SurvivesRandomDamage) {
  const Image picture = Picture(24, 40);
  const std::vector<std::string> originals = {EncodeJpeg(picture),
                                              EncodeJpeg(picture, {.progressive = true}),
                                              EncodeJpeg(picture, {.arithmetic = true}),
                                              EncodePng(24, 40, picture.pixels),
                                              EncodePng(24, 40, picture.pixels, {.interlaced = true}),
                                              EncodeWebp(picture),
                                              FileBytes("lossy_alpha.webp"),
                                              FileBytes("animation.webp")};
  for (size_t k = 0; k < originals.size(); ++k) {
    for (uint64_t trial = 0; trial < 1000; ++trial) {
      Draws draws({k, trial});
      std::string bytes = originals[k];
      for (int64_t changes = draws.Below(4); changes >= 0; --changes) {
        bytes[draws.Below(static_cast<int64_t>(bytes.size()))] = static_cast<char>(draws.Below(256));
      }
      if (draws.Bernoulli(0.2)) bytes.erase(draws.Below(static_cast<int64_t>(bytes.size())), draws.Below(20));
      const absl::StatusOr<Image> image =
          DecodeImage(bytes, {.exif_orientation = true, .keep_truncated = draws.Bernoulli(0.5)});
      if (image.ok()) EXPECT_EQ(static_cast<int64_t>(image->pixels.size()), 3 * image->height * image->width);
    }
  }
}

TEST(DecodeTest, NamesOtherFormats) {
  EXPECT_THAT(Reason(""), HasSubstr("empty"));
  EXPECT_THAT(Reason("GIF89a..."), HasSubstr("neither a JPEG, a PNG nor a WebP but a GIF file"));
  EXPECT_THAT(Reason(std::string("MM\0*....", 8)), HasSubstr("but a TIFF file"));
  EXPECT_THAT(Reason("hello, world"), HasSubstr("the file begins with \"hello, w\""));
  EXPECT_THAT(Reason("RIFF....WAVEfmt "), HasSubstr("the file begins with \"RIFF....\""));
  EXPECT_THAT(Reason(std::string("\x01\x02", 2)), HasSubstr("begins with \"\\x01\\x02\""));
  EXPECT_EQ(Code("GIF89a"), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Code("RIFF"), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace graticule
