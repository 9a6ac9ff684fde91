#include "data/transforms/test_images.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>

#include "data/decode/decode.h"
#include "gtest/gtest.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {

Image TestImage(const std::string& name) {
  std::ifstream file("data/transforms/testdata/" + name + ".png", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const absl::StatusOr<Image> image = DecodeImage(bytes);
  CHECK(image.ok()) << name << ": " << image.status();
  return *image;
}

Image CoordinateImage(int64_t height, int64_t width) {
  Image image{height, width, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (const int64_t value : {y, x, int64_t{7}}) image.pixels.push_back(static_cast<uint8_t>(value));
    }
  }
  return image;
}

int MaxDifference(const Image& a, const Image& b) {
  if (a.height != b.height || a.width != b.width) {
    ADD_FAILURE() << a.height << "x" << a.width << " against " << b.height << "x" << b.width;
    return std::numeric_limits<int>::max();
  }
  int most = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
  return most;
}

absl::StatusOr<std::unique_ptr<Transform>> MakeTransform(const google::protobuf::Message& config, Size2d image_size) {
  return Registry<Transform>::Create(config, {.image_size = image_size, .statistics = {}});
}

Image Transformed(const Transform& transform, Image image, uint64_t key) {
  Draws draws({key});
  transform.Apply(image, draws);
  return image;
}

std::string ConfigError(const google::protobuf::Message& config) {
  const auto transform = MakeTransform(config);
  return transform.ok() ? "none" : std::string(transform.status().message());
}

}  // namespace graticule
