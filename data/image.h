// A decoded image in memory.
#ifndef GRATICULE_DATA_IMAGE_H_
#define GRATICULE_DATA_IMAGE_H_

#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "nn/size2d.h"

namespace graticule {

// Leaves what a vector grows by as the memory was: pixels are written right after, and clearing them first would cost
// as much as copying them.
template <typename T>
struct UninitializedAllocator : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };
  template <typename U>
  void construct(U* place) noexcept {
    ::new (static_cast<void*>(place)) U;
  }
  template <typename U, typename... Args>
  void construct(U* place, Args&&... args) {
    ::new (static_cast<void*>(place)) U(std::forward<Args>(args)...);
  }
};

// Pixels(n) holds n bytes of no particular value, Pixels(n, 0) holds zeros.
using Pixels = std::vector<uint8_t, UninitializedAllocator<uint8_t>>;

// 8-bit RGB, rows from the top, channels last and tight: pixel (y, x) starts at pixels[3 * (y * width + x)]. Grey
// images are replicated when decoded.
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  Pixels pixels;

  Size2d size() const { return {height, width}; }

  static constexpr int64_t kChannels = 3;
  // Nothing larger is decoded or made, lest a small bad file takes all memory.
  static constexpr int64_t kMaxPixels = int64_t{1} << 28;
  bool operator==(const Image&) const = default;
};

// A rectangle of pixels.
struct Box {
  int64_t top = 0;
  int64_t left = 0;
  Size2d size;

  bool operator==(const Box&) const = default;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_IMAGE_H_
