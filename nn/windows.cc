#include "nn/windows.h"

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/constant_pad_nd.h"
#include "plugin/logging.h"

namespace graticule {

Windows::Windows(Size2d map, Size2d window, Size2d shift) : map_(map), window_(window), shift_(shift) {
  CHECK(window.height > 0 && window.height <= map.height && window.width > 0 && window.width <= map.width)
      << "a window is at most the map";
  CHECK(shift.height >= 0 && shift.height < window.height && shift.width >= 0 && shift.width < window.width)
      << "a shift is less than the window";
  windows_ = {(map.height + window.height - 1) / window.height, (map.width + window.width - 1) / window.width};
}

at::Tensor Windows::Shift(const at::Tensor& x) const {
  CHECK(x.size(1) == map_.height && x.size(2) == map_.width) << "the map is of another size";
  const at::Tensor rolled = shift_ == Size2d{} ? x : x.roll({-shift_.height, -shift_.width}, {1, 2});
  const int64_t rows = windows_.height * window_.height - map_.height;
  const int64_t columns = windows_.width * window_.width - map_.width;
  return rows + columns == 0 ? rolled : at::constant_pad_nd(rolled, {0, 0, 0, columns, 0, rows});
}

at::Tensor Windows::Unshift(const at::Tensor& x) const {
  const at::Tensor cropped = x.narrow(1, 0, map_.height).narrow(2, 0, map_.width);
  return shift_ == Size2d{} ? cropped : cropped.roll({shift_.height, shift_.width}, {1, 2});
}

at::Tensor Windows::Split(const at::Tensor& x) const {
  return x.unflatten(2, {windows_.width, window_.width})
      .unflatten(1, {windows_.height, window_.height})  // [B,n_h,wh,n_w,ww,H,d]
      .permute({0, 1, 3, 5, 2, 4, 6})
      .reshape({-1, x.size(3), window_.area(), x.size(4)});
}

at::Tensor Windows::Join(const at::Tensor& x) const {
  const int64_t heads = x.size(1), width = x.size(3);
  return x.reshape({-1, windows_.height, windows_.width, heads, window_.height, window_.width, width})
      .permute({0, 1, 4, 2, 5, 3, 6})
      .reshape({-1, windows_.height * window_.height, windows_.width * window_.width, heads * width});
}

at::Tensor Windows::Mask() const {
  if (shift_ == Size2d{}) return at::Tensor();
  // The last `shift` rows and columns are those that fell off; no window but the last along an axis has both kinds.
  const auto fell_off = [](int64_t windows, int64_t window, int64_t shift) {
    const int64_t size = windows * window;
    return at::arange(size, at::kLong).ge(size - shift).to(at::kLong);
  };
  const at::Tensor piece = fell_off(windows_.height, window_.height, shift_.height).unsqueeze(1) * 2 +
                           fell_off(windows_.width, window_.width, shift_.width);               // [h',w']
  const at::Tensor pieces = Split(piece.unsqueeze(0).unsqueeze(-1).unsqueeze(-1)).squeeze(-1);  // [n,1,T]
  return pieces.unsqueeze(-1).ne(pieces.unsqueeze(-2)).to(at::kFloat) * -100;
}

}  // namespace graticule
