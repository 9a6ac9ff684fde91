// Deterministic resizing, for evaluation.
#ifndef GRATICULE_DATA_TRANSFORMS_RESIZE_RESIZE_H_
#define GRATICULE_DATA_TRANSFORMS_RESIZE_RESIZE_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "data/transforms/resize/resize.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class ResizeTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const Resize& config, const TransformContext& context);

  void Apply(Image& image, Draws& draws) const override;
  std::optional<ResizedWindow> Window(Size2d image, Draws& draws) const override;
  void Describe(Preprocessing& preprocessing) const override;

 private:
  ResizeTransform(Size2d target, double crop_pct, const Resize& config)
      : target_(target),
        crop_pct_(crop_pct),
        interpolation_(config.interpolation()),
        squash_(config.squash()),
        antialias_(!config.has_antialias() || config.antialias()) {}

  Size2d target_;
  double crop_pct_;
  Interpolation interpolation_;
  bool squash_;
  bool antialias_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RESIZE_RESIZE_H_
