// A shifted window of a padded image, for training on small images.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_CROP_RANDOM_CROP_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_CROP_RANDOM_CROP_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/random_crop/random_crop.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class RandomCropTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomCrop& config, const TransformContext& context);
  RandomCropTransform(Size2d size, int64_t padding) : size_(size), padding_(padding) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  Size2d size_;
  int64_t padding_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_CROP_RANDOM_CROP_H_
