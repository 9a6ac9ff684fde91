#include "data/decode/test_jpeg.h"

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <utility>
// clang-format off: needs the lines before it
#include <jpeglib.h>
// clang-format on

#include "data/decode/test_files.h"
#include "data/random.h"

namespace graticule {
namespace {

struct Errors {
  jpeg_error_mgr manager;
  std::jmp_buf failed;
  bool amiss;
};

}  // namespace

std::string Encode(const TestJpeg& config, uint64_t seed) {
  Draws draws({seed});
  Pixels values;
  for (int64_t y = 0; y < config.height; ++y) {
    for (int64_t x = 0; x < config.width; ++x) {
      for (int c = 0; c < config.components; ++c) {
        const double wave = 128 + 90 * std::sin(0.11 * (c + 1) * y + 0.07 * x) * std::cos(0.05 * x * (c + 1));
        const double value = config.noise ? 255.0 * draws.Below(2) : wave + draws.Below(24) - 12.0;
        values.push_back(static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)));
      }
    }
  }
  std::vector<jpeg_scan_info> scans;  // one for each component
  for (int c = 0; c < config.components; ++c) scans.push_back({1, {c}, 0, 63, 0, 0});
  return JpegFile(config.height, config.width, config.components, std::move(values), [&](jpeg_compress_struct& jpeg) {
    if (config.components == 4) jpeg_set_colorspace(&jpeg, JCS_YCCK);
    jpeg_set_quality(&jpeg, config.quality, TRUE);
    for (int c = 0; c < config.components; c += 3) {
      jpeg.comp_info[c].h_samp_factor = config.sampling[0];
      jpeg.comp_info[c].v_samp_factor = config.sampling[1];
    }
    jpeg.restart_interval = config.restart_interval;
    jpeg.optimize_coding = config.optimized;
    if (!config.interleaved) {
      jpeg.scan_info = scans.data();
      jpeg.num_scans = static_cast<int>(scans.size());
    }
    if (config.progressive) jpeg_simple_progression(&jpeg);
  });
}

std::vector<TestJpeg> TestJpegs(int64_t height, int64_t width) {
  std::vector<TestJpeg> jpegs;
  const auto add = [&](TestJpeg jpeg) {
    jpeg.height = height;
    jpeg.width = width;
    jpegs.push_back(jpeg);
  };
  for (const std::array<int, 2> sampling : {std::array{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}}) {
    add({.sampling = sampling});
    add({.sampling = sampling, .quality = 40, .restart_interval = 3, .optimized = true});
    add({.sampling = sampling, .quality = 100, .optimized = true, .noise = true});
    add({.sampling = sampling, .progressive = true});
    add({.sampling = sampling, .interleaved = false});
  }
  for (const std::array<int, 2> sampling : {std::array{1, 1}, {2, 2}}) {
    add({.components = 1, .sampling = sampling});
    add({.components = 1, .sampling = sampling, .quality = 100, .restart_interval = 1, .noise = true});
    add({.components = 4, .sampling = sampling, .restart_interval = 5});
    add({.components = 4, .sampling = sampling, .progressive = true});
  }
  return jpegs;
}

std::optional<Samples> DecodeByLibjpeg(std::string_view bytes, int denominator) {
  jpeg_decompress_struct jpeg;
  Errors errors;
  Samples samples;
  jpeg.err = jpeg_std_error(&errors.manager);
  jpeg.client_data = &errors;
  errors.amiss = false;
  errors.manager.error_exit = [](j_common_ptr jpeg) {
    std::longjmp(static_cast<Errors*>(jpeg->client_data)->failed, 1);
  };
  errors.manager.emit_message = [](j_common_ptr jpeg, int level) {
    if (level < 0) static_cast<Errors*>(jpeg->client_data)->amiss = true;
  };
  jpeg_create_decompress(&jpeg);
  if (setjmp(errors.failed) != 0) {
    jpeg_destroy_decompress(&jpeg);
    return std::nullopt;
  }
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  errors.amiss = false;
  jpeg.out_color_space = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK ? JCS_CMYK : JCS_RGB;
  jpeg.scale_num = 1;
  jpeg.scale_denom = denominator;
  jpeg_start_decompress(&jpeg);
  samples.height = jpeg.output_height;
  samples.width = jpeg.output_width;
  samples.components = jpeg.output_components;
  const int64_t row_bytes = samples.width * samples.components;
  samples.values.resize(samples.height * row_bytes);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = samples.values.data() + jpeg.output_scanline * row_bytes;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  if (errors.amiss) return std::nullopt;
  return samples;
}

Image ToRgb(const Samples& samples) {
  Image image{samples.height, samples.width, {}};
  for (size_t i = 0; i < samples.values.size(); i += samples.components) {
    for (int c = 0; c < 3; ++c) {
      const int value = samples.values[i + c], light = samples.components == 4 ? samples.values[i + 3] : 255;
      image.pixels.push_back(static_cast<uint8_t>(std::lround(value * light / 255.0)));
    }
  }
  return image;
}

Image Cut(const Image& image, const Box& window) {
  Image cut{window.size.height, window.size.width, {}};
  for (int64_t y = window.top; y < window.top + window.size.height; ++y) {
    const auto first = image.pixels.begin() + Image::kChannels * (y * image.width + window.left);
    cut.pixels.insert(cut.pixels.end(), first, first + Image::kChannels * window.size.width);
  }
  return cut;
}

}  // namespace graticule
