// Mean and deviation of the pixels.
#ifndef GRATICULE_DATA_STATISTICS_H_
#define GRATICULE_DATA_STATISTICS_H_

#include <array>

namespace graticule {

// By which the images' channels R, G, B are normalised, on a scale of 0 to 1; ImageNet's by default.
struct ChannelStatistics {
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};
  std::array<float, 3> std = {0.229f, 0.224f, 0.225f};
};

}  // namespace graticule

#endif  // GRATICULE_DATA_STATISTICS_H_
