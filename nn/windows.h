// Windows of attention on a map of tokens, which may be shifted (Swin, arXiv 2103.14030).
#ifndef GRATICULE_NN_WINDOWS_H_
#define GRATICULE_NN_WINDOWS_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "nn/token_map.h"

namespace graticule {

// How the n windows of wh×ww = T tokens lie on a map of h×w. Where they don't tile the map, zeros pad it at its end to
// h'×w', and are attended to like tokens, as in timm.
class Windows {
 public:
  // The map is rolled by `shift` towards its start, so that the windows lie `shift` further down and right and the last
  // ones hold what fell off. `window` is at most the map, `shift` less than `window`.
  Windows(Size2d map, Size2d window, Size2d shift = {});

  Size2d window() const { return window_; }
  // [B,h,w,D] to [B,h',w',D], rolled and padded.
  at::Tensor Shift(const at::Tensor& x) const;
  // The inverse: [B,h',w',D] to [B,h,w,D].
  at::Tensor Unshift(const at::Tensor& x) const;
  // [B,h',w',H,d] to [B·n,H,T,d]: the windows of an image after each other, in raster order. One copy.
  at::Tensor Split(const at::Tensor& x) const;
  // The inverse, with all heads together: [B·n,H,T,d] to [B,h',w',H·d].
  at::Tensor Join(const at::Tensor& x) const;
  // Added to the logits: [n,1,T,T], -100 between tokens that are neighbours only because the map was rolled, else 0.
  // Undefined where nothing is rolled.
  at::Tensor Mask() const;

 private:
  Size2d map_;
  Size2d window_;
  Size2d shift_;
  Size2d windows_;  // how many down and across
};

}  // namespace graticule

#endif  // GRATICULE_NN_WINDOWS_H_
