#include "data/decode/test_files.h"

#include <png.h>
#include <stdlib.h>

#include <cstdio>
// clang-format off: needs the line before it
#include <jpeglib.h>
// clang-format on

#include "plugin/logging.h"

namespace graticule {

std::string PngFile(const Image& image) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.height = static_cast<png_uint_32>(image.height);
  png.width = static_cast<png_uint_32>(image.width);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  CHECK(png_image_write_to_memory(&png, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr)) << png.message;
  bytes.resize(size);
  return bytes;
}

std::string JpegFile(const Image& image, int quality) {
  return JpegFile(image.height, image.width, Image::kChannels, image.pixels,
                  [quality](jpeg_compress_struct& jpeg) { jpeg_set_quality(&jpeg, quality, TRUE); });
}

std::string JpegFile(int64_t height, int64_t width, int channels, Pixels values,
                     const std::function<void(jpeg_compress_struct&)>& configure) {
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
  jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&jpeg);
  configure(jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  for (int64_t y = 0; y < height; ++y) {
    JSAMPROW row = values.data() + y * width * channels;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  const std::string bytes(reinterpret_cast<char*>(buffer), size);
  jpeg_destroy_compress(&jpeg);
  free(buffer);
  return bytes;
}

}  // namespace graticule
