// A colour of 8-bit pixels.
#ifndef GRATICULE_DATA_COLOR_H_
#define GRATICULE_DATA_COLOR_H_

#include <array>
#include <cstdint>

#include "data/statistics.h"

namespace graticule {

using Color = std::array<uint8_t, 3>;  // R, G, B

// The one by whose mean images are normalised, rounded.
Color MeanColor(const ChannelStatistics& statistics);

}  // namespace graticule

#endif  // GRATICULE_DATA_COLOR_H_
