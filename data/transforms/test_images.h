// What the tests of the transforms have in common.
#ifndef GRATICULE_DATA_TRANSFORMS_TEST_IMAGES_H_
#define GRATICULE_DATA_TRANSFORMS_TEST_IMAGES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/image.h"
#include "data/transforms/transform.h"
#include "google/protobuf/message.h"

namespace graticule {

// testdata/NAME.png, made by tools/parity/make_image_fixtures.py.
Image TestImage(const std::string& name);

// Pixel (y, x) is (y, x, 7).
Image CoordinateImage(int64_t height, int64_t width);

// Largest difference of a channel; fails the test and is huge where the sizes differ.
int MaxDifference(const Image& a, const Image& b);

// The transform of a config message, for a model of this image size, through the registry.
absl::StatusOr<std::unique_ptr<Transform>> MakeTransform(const google::protobuf::Message& config,
                                                         Size2d image_size = {32, 32});

// The image, transformed, with the draws of a key.
Image Transformed(const Transform& transform, Image image, uint64_t key = 0);

// The message of the error that the config gives, or "none".
std::string ConfigError(const google::protobuf::Message& config);

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_TEST_IMAGES_H_
