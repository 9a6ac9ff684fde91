// Blur by chance, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_GAUSSIAN_BLUR_GAUSSIAN_BLUR_H_
#define GRATICULE_DATA_TRANSFORMS_GAUSSIAN_BLUR_GAUSSIAN_BLUR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/fields.h"
#include "data/transforms/gaussian_blur/gaussian_blur.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class GaussianBlurTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const GaussianBlur& config, const TransformContext& context);
  GaussianBlurTransform(double probability, Range radius) : probability_(probability), radius_(radius) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  double probability_;
  Range radius_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_GAUSSIAN_BLUR_GAUSSIAN_BLUR_H_
