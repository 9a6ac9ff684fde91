// DeiT III's simple random crop, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_SIMPLE_RANDOM_CROP_SIMPLE_RANDOM_CROP_H_
#define GRATICULE_DATA_TRANSFORMS_SIMPLE_RANDOM_CROP_SIMPLE_RANDOM_CROP_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/simple_random_crop/simple_random_crop.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

// `box` of an image that goes on beyond its borders as its reflection (numpy's pad mode "reflect").
Image ReflectedCrop(const Image& image, const Box& box);

class SimpleRandomCropTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const SimpleRandomCrop& config,
                                                           const TransformContext& context);
  SimpleRandomCropTransform(Size2d size, int64_t padding, Interpolation interpolation)
      : size_(size), padding_(padding), interpolation_(interpolation) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  Size2d size_;
  int64_t padding_;
  Interpolation interpolation_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_SIMPLE_RANDOM_CROP_SIMPLE_RANDOM_CROP_H_
