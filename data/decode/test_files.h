// Image files for tests.
#ifndef GRATICULE_DATA_DECODE_TEST_FILES_H_
#define GRATICULE_DATA_DECODE_TEST_FILES_H_

#include <cstdint>
#include <functional>
#include <string>

#include "data/image.h"

struct jpeg_compress_struct;

namespace graticule {

std::string PngFile(const Image& image);
std::string JpegFile(const Image& image, int quality = 95);

// Of tight rows of grey (1 channel), RGB (3) or CMYK (4) values; `configure` changes what libjpeg does by default.
std::string JpegFile(int64_t height, int64_t width, int channels, Pixels values,
                     const std::function<void(jpeg_compress_struct&)>& configure);

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_TEST_FILES_H_
