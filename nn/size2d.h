// A height and a width.
#ifndef GRATICULE_NN_SIZE2D_H_
#define GRATICULE_NN_SIZE2D_H_

#include <cstdint>

namespace graticule {

// Of an image in pixels, of a patch, of the grid in patches.
struct Size2d {
  int64_t height = 0;
  int64_t width = 0;

  int64_t area() const { return height * width; }
  // How many squares of `side` there are down and across.
  Size2d operator/(int64_t side) const { return {height / side, width / side}; }
  bool operator==(const Size2d&) const = default;
};

}  // namespace graticule

#endif  // GRATICULE_NN_SIZE2D_H_
