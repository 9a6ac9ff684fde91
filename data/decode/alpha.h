// Transparency laid over a colour.
#ifndef GRATICULE_DATA_DECODE_ALPHA_H_
#define GRATICULE_DATA_DECODE_ALPHA_H_

#include <array>
#include <cstdint>

namespace graticule {

// Writes the RGB of one RGBA pixel, whose colour is not multiplied by its alpha. `rgb` may be `rgba` or before it.
inline void LayOver(const std::array<uint8_t, 3>& background, const uint8_t* rgba, uint8_t* rgb) {
  const int alpha = rgba[3];
  for (int c = 0; c < 3; ++c) {
    rgb[c] = static_cast<uint8_t>((rgba[c] * alpha + background[c] * (255 - alpha) + 127) / 255);
  }
}

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_ALPHA_H_
