// Greyscale by chance, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_GRAYSCALE_RANDOM_GRAYSCALE_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_GRAYSCALE_RANDOM_GRAYSCALE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/transforms/random_grayscale/random_grayscale.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

class RandomGrayscaleTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomGrayscale& config,
                                                           const TransformContext& context);
  explicit RandomGrayscaleTransform(double probability) : probability_(probability) {}

  void Apply(Image& image, Draws& draws) const override;

 private:
  double probability_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_GRAYSCALE_RANDOM_GRAYSCALE_H_
