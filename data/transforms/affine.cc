#include "data/transforms/affine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "data/transforms/clones.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

constexpr int64_t kChannels = Image::kChannels;
// As far as taps reach over the edges.
constexpr int64_t kMargin = 2;
// Of positions: 32 bits after the point.
constexpr double kOne = 0x1p32;
// More than the taps' rounding errors, which must not truncate 100 to 99.
constexpr float kRounding = 0x1p-12f;

// A lane for each channel of one pixel (and the next one's red), and for each of four pixels (and four more).
using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));
using Int4 = int32_t __attribute__((vector_size(16)));
using Bytes4 = uint8_t __attribute__((vector_size(4)));
using Bytes8 = uint8_t __attribute__((vector_size(8)));
using Bytes16 = uint8_t __attribute__((vector_size(16)));

// A copy of an image whose edges are repeated around it, with some bytes more for the last vector.
class Source {
 public:
  explicit Source(const Image& image)
      : row_bytes_(kChannels * (image.width + 2 * kMargin)),
        bytes_(row_bytes_ * (image.height + 2 * kMargin) + static_cast<int64_t>(sizeof(Bytes16))) {
    const int64_t bytes = kChannels * image.width;
    for (int64_t y = -kMargin; y < image.height + kMargin; ++y) {
      uint8_t* const row = bytes_.data() + (y + kMargin) * row_bytes_;
      uint8_t* const inside = row + kMargin * kChannels;
      std::memcpy(inside, image.pixels.data() + bytes * std::clamp<int64_t>(y, 0, image.height - 1), bytes);
      for (int64_t i = 0; i < kMargin; ++i) {
        std::memcpy(row + i * kChannels, inside, kChannels);
        std::memcpy(inside + bytes + i * kChannels, inside + bytes - kChannels, kChannels);
      }
    }
    std::fill_n(bytes_.end() - sizeof(Bytes16), sizeof(Bytes16), 0);
  }
  // Pixel (0, 0).
  const uint8_t* origin() const { return bytes_.data() + kMargin * (row_bytes_ + kChannels); }
  int64_t row_bytes() const { return row_bytes_; }

 private:
  int64_t row_bytes_;
  Pixels bytes_;
};

// Positions along a row of the result, less half a pixel, so that whole numbers are middles of the source's pixels.
struct Line {
  int64_t x, y;    // of the first pixel
  int64_t dx, dy;  // from one to the next
};

inline int64_t Whole(int64_t position) { return position >> 32; }
inline float Fraction(int64_t position) {
  return static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(position) >> 8)) * 0x1p-24f;
}

inline void StorePixel(Float4 value, uint8_t* result) {
  value += kRounding;
  value = value < 0.f ? Float4{} : value;
  value = value > 255.f ? Float4{} + 255.f : value;
  const Bytes4 bytes = __builtin_convertvector(__builtin_convertvector(value, Int4), Bytes4);
  std::memcpy(result, &bytes, kChannels);
}

// Of the taps at -1, 0, 1 and 2 for a point at `t` between 0 and 1.
inline Float4 LinearWeights(float t) { return {0, 1 - t, t, 0}; }
inline Float4 CubicWeights(float t) {
  const Float4 c0 = {0, 1, 0, 0}, c1 = {-1, 0, 1, 0}, c2 = {2, -2, 1, -1}, c3 = {-1, 1, -1, 1};
  return ((c3 * t + c2) * t + c1) * t + c0;
}

GRATICULE_CLONES void ResampleBilinear(const uint8_t* origin, int64_t row_bytes, Line line, int64_t count,
                                       uint8_t* result) {
  for (; count > 0; --count, line.x += line.dx, line.y += line.dy, result += kChannels) {
    const uint8_t* taps = origin + Whole(line.y) * row_bytes + Whole(line.x) * kChannels;
    const float x = Fraction(line.x), y = Fraction(line.y);
    Bytes8 upper, lower;
    std::memcpy(&upper, taps, sizeof(upper));
    std::memcpy(&lower, taps + row_bytes, sizeof(lower));
    const Float8 columns =
        (1 - y) * __builtin_convertvector(upper, Float8) + y * __builtin_convertvector(lower, Float8);
    StorePixel((1 - x) * __builtin_shufflevector(columns, columns, 0, 1, 2, 3) +
                   x * __builtin_shufflevector(columns, columns, 3, 4, 5, 6),
               result);
  }
}

GRATICULE_CLONES void ResampleBicubic(const uint8_t* origin, int64_t row_bytes, Line line, int64_t count,
                                      uint8_t* result) {
  for (; count > 0; --count, line.x += line.dx, line.y += line.dy, result += kChannels) {
    const uint8_t* taps = origin + (Whole(line.y) - 1) * row_bytes + (Whole(line.x) - 1) * kChannels;
    const Float4 x = CubicWeights(Fraction(line.x)), y = CubicWeights(Fraction(line.y));
    Float16 columns = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Bytes16 row;
      std::memcpy(&row, taps + i * row_bytes, sizeof(row));
      columns += y[i] * __builtin_convertvector(row, Float16);
    }
    StorePixel(x[0] * __builtin_shufflevector(columns, columns, 0, 1, 2, 3) +
                   x[1] * __builtin_shufflevector(columns, columns, 3, 4, 5, 6) +
                   x[2] * __builtin_shufflevector(columns, columns, 6, 7, 8, 9) +
                   x[3] * __builtin_shufflevector(columns, columns, 9, 10, 11, 12),
               result);
  }
}

// Where pixels follow each other as in the source, all of a row has the same weights: several times as fast.
GRATICULE_CLONES void ResampleShifted(const uint8_t* origin, int64_t row_bytes, Line line, Float4 x, Float4 y,
                                      int64_t count, uint8_t* result) {
  constexpr int64_t kBlock = 256, kTaps = 4;
  const uint8_t* taps = origin + (Whole(line.y) - 1) * row_bytes + (Whole(line.x) - 1) * kChannels;
  for (; count > 0; count -= kBlock, taps += kBlock * kChannels, result += kBlock * kChannels) {
    const int64_t values = kChannels * std::min(count, kBlock);
    float columns[kChannels * (kBlock + kTaps - 1)];
    for (int64_t i = 0; i < values + kChannels * (kTaps - 1); ++i) {
      columns[i] = y[0] * static_cast<float>(taps[i]) + y[1] * static_cast<float>(taps[i + row_bytes]) +
                   y[2] * static_cast<float>(taps[i + 2 * row_bytes]) +
                   y[3] * static_cast<float>(taps[i + 3 * row_bytes]);
    }
    for (int64_t i = 0; i < values; ++i) {
      const float value = x[0] * columns[i] + x[1] * columns[i + kChannels] + x[2] * columns[i + 2 * kChannels] +
                          x[3] * columns[i + 3 * kChannels] + kRounding;
      result[i] = static_cast<uint8_t>(static_cast<int>(std::min(std::max(value, 0.f), 255.f)));
    }
  }
}

void Resample(const Source& source, const Line& line, Interpolation interpolation, int64_t count, uint8_t* result) {
  const bool linear = interpolation == BILINEAR;
  if (line.dx == static_cast<int64_t>(kOne) && line.dy == 0) {
    const auto weights = linear ? LinearWeights : CubicWeights;
    ResampleShifted(source.origin(), source.row_bytes(), line, weights(Fraction(line.x)), weights(Fraction(line.y)),
                    count, result);
  } else {
    (linear ? ResampleBilinear : ResampleBicubic)(source.origin(), source.row_bytes(), line, count, result);
  }
}

struct Span {
  int64_t begin, end;
};

// The least i below `count` where `predicate` holds, which then holds for all after it; `count` if it never does.
template <typename Predicate>
int64_t FirstWhere(int64_t count, const Predicate& predicate) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (predicate(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// The pixels of a row whose coordinate, a linear function, is from 0 to below `size`: in Pillow's arithmetic, so that
// it agrees at the very edge.
template <typename Coordinate>
Span Inside(const Coordinate& coordinate, bool falling, int64_t size, int64_t count) {
  const auto limit = static_cast<double>(size);
  if (falling) {
    return {FirstWhere(count, [&](int64_t i) { return coordinate(i) < limit; }),
            FirstWhere(count, [&](int64_t i) { return coordinate(i) < 0; })};
  }
  return {FirstWhere(count, [&](int64_t i) { return coordinate(i) >= 0; }),
          FirstWhere(count, [&](int64_t i) { return coordinate(i) >= limit; })};
}

int64_t Position(double coordinate) { return std::llround((coordinate - 0.5) * kOne); }

void Fill(uint8_t* pixels, int64_t count, const Color& color) {
  for (int64_t i = 0; i < count; ++i) std::copy_n(color.data(), kChannels, pixels + kChannels * i);
}

// Python's round(x, 15).
double Rounded(double x) { return std::nearbyint(x * 1e15) / 1e15; }

}  // namespace

AffineMatrix Rotation(Size2d image, double degrees) {
  const double angle = -degrees * (std::numbers::pi / 180);
  const double cosine = Rounded(std::cos(angle)), sine = Rounded(std::sin(angle));
  const double x = static_cast<double>(image.width) / 2, y = static_cast<double>(image.height) / 2;
  return {cosine, sine, (cosine * -x + sine * -y) + x, -sine, cosine, (-sine * -x + cosine * -y) + y};
}

void ApplyAffine(Image& image, const AffineMatrix& matrix, Interpolation interpolation, const Color& fill) {
  CHECK_NE(interpolation, RANDOM);
  const Source source(image);
  for (int64_t row = 0; row < image.height; ++row) {
    const double middle = static_cast<double>(row) + 0.5;
    const auto x = [&](int64_t i) {
      return matrix[0] * (static_cast<double>(i) + 0.5) + matrix[1] * middle + matrix[2];
    };
    const auto y = [&](int64_t i) {
      return matrix[3] * (static_cast<double>(i) + 0.5) + matrix[4] * middle + matrix[5];
    };
    const Span by_x = Inside(x, matrix[0] < 0, image.width, image.width);
    const Span by_y = Inside(y, matrix[3] < 0, image.height, image.width);
    const int64_t begin = std::max(by_x.begin, by_y.begin), end = std::max(begin, std::min(by_x.end, by_y.end));
    uint8_t* const pixels = image.pixels.data() + kChannels * row * image.width;
    Fill(pixels, begin, fill);
    if (begin < end) {
      const Line line{Position(x(begin)), Position(y(begin)), std::llround(matrix[0] * kOne),
                      std::llround(matrix[3] * kOne)};
      Resample(source, line, interpolation, end - begin, pixels + kChannels * begin);
    }
    Fill(pixels + kChannels * end, image.width - end, fill);
  }
}

}  // namespace graticule
