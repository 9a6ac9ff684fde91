// The middle of an image, for evaluation.
#ifndef GRATICULE_DATA_TRANSFORMS_CENTER_CROP_CENTER_CROP_H_
#define GRATICULE_DATA_TRANSFORMS_CENTER_CROP_CENTER_CROP_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "data/transforms/center_crop/center_crop.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class CenterCropTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const CenterCrop& config, const TransformContext& context);
  explicit CenterCropTransform(Size2d size) : size_(size) {}

  void Apply(Image& image, Draws& draws) const override;
  std::optional<ResizedWindow> Window(Size2d image, Draws& draws) const override;

 private:
  // It reaches out of an image that is too small.
  Box Middle(Size2d image) const;

  Size2d size_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_CENTER_CROP_CENTER_CROP_H_
