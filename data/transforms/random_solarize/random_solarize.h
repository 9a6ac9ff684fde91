// Solarization by chance, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_SOLARIZE_RANDOM_SOLARIZE_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_SOLARIZE_RANDOM_SOLARIZE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/random_solarize/random_solarize.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class RandomSolarizeTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomSolarize& config,
                                                           const TransformContext& context);
  RandomSolarizeTransform(double probability, int threshold) : probability_(probability), threshold_(threshold) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  double probability_;
  int threshold_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_SOLARIZE_RANDOM_SOLARIZE_H_
