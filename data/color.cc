#include "data/color.h"

#include <algorithm>
#include <cmath>

namespace graticule {

Color MeanColor(const ChannelStatistics& statistics) {
  Color color;
  for (size_t c = 0; c < color.size(); ++c) {
    color[c] = static_cast<uint8_t>(std::clamp(std::nearbyint(255.0 * statistics.mean[c]), 0.0, 255.0));
  }
  return color;
}

}  // namespace graticule
