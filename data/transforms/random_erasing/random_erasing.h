// Erasing of random boxes, for training.
#ifndef GRATICULE_DATA_TRANSFORMS_RANDOM_ERASING_RANDOM_ERASING_H_
#define GRATICULE_DATA_TRANSFORMS_RANDOM_ERASING_RANDOM_ERASING_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/color.h"
#include "data/fields.h"
#include "data/statistics.h"
#include "data/transforms/random_erasing/random_erasing.pb.h"
#include "data/transforms/transform.h"

namespace graticule {

// How many boxes are erased, and which.
struct ErasedBoxes {
  Range area;    // share of the image, of all boxes together
  Range aspect;  // height over width
  int64_t min_count;
  int64_t max_count;

  // Those of one image. A box is left out where ten draws give none that is smaller than the image in both directions;
  // it may be empty.
  std::vector<Box> Draw(Size2d image, Draws& draws) const;
};

class RandomErasingTransform : public Transform {
 public:
  static absl::StatusOr<std::unique_ptr<Transform>> Create(const RandomErasing& config,
                                                           const TransformContext& context);

  void Apply(Image& image, Draws& draws) const override;

 private:
  RandomErasingTransform(double probability, const ErasedBoxes& boxes, RandomErasing::Mode mode,
                         const ChannelStatistics& statistics);
  Color Noise(Draws& draws) const;
  void Erase(const Box& box, Image& image, Draws& draws) const;

  double probability_;
  ErasedBoxes boxes_;
  RandomErasing::Mode mode_;
  Color mean_;
  // By channel: normal noise of the image's statistics at evenly spaced quantiles, as many as 16 bits can tell apart.
  std::array<std::vector<uint8_t>, Image::kChannels> quantiles_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_RANDOM_ERASING_RANDOM_ERASING_H_
