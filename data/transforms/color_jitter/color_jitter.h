// Random changes of colours, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_COLOR_JITTER_COLOR_JITTER_H_
#define GRATICULE_DATA_TRANSFORMS_COLOR_JITTER_COLOR_JITTER_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/fields.h"
#include "data/transforms/color_jitter/color_jitter.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class ColorJitterTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const ColorJitter& config, const TransformContext& context);

  void Apply(Image& image, Draws& draws) const override;

 private:
  enum Property { kBrightness, kContrast, kSaturation, kHue };
  struct Jitter {
    Property property;
    Range factor;
  };

  explicit ColorJitterTransform(double probability) : probability_(probability) {}

  double probability_;
  std::vector<Jitter> jitters_;  // without those that would change nothing
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_COLOR_JITTER_COLOR_JITTER_H_
