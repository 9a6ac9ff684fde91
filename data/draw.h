// Pictures with text, for a person to look at.
#ifndef GRATICULE_DATA_DRAW_H_
#define GRATICULE_DATA_DRAW_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/color.h"
#include "data/image.h"

namespace graticule {

inline constexpr Color kBlack = {0, 0, 0};
inline constexpr Color kWhite = {255, 255, 255};

// What lies outside of it is not drawn.
class Canvas {
 public:
  Canvas(Size2d size, Color background);

  // `opacity`: 1 covers what was there, 0 leaves it.
  void Fill(const Box& box, Color colour, double opacity = 1);
  // Every pixel of the image becomes a square of `factor`×`factor`.
  void Draw(const Image& image, int64_t top, int64_t left, int64_t factor);
  // One line, whose pixels are squares of `scale`×`scale`. The font is ASCII: any other character is a "?".
  void Write(const std::string& text, int64_t top, int64_t left, int64_t scale, Color colour);

  const Image& image() const { return image_; }

 private:
  Image image_;
};

// Of a line of text: capitals and digits are this high; a few letters reach 2·scale below.
constexpr int64_t TextHeight(int64_t scale) { return 7 * scale; }
int64_t TextWidth(const std::string& text, int64_t scale);
// As much of the text as fits, with ".." for the rest.
std::string CutText(const std::string& text, int64_t scale, int64_t width);

// The bytes of a PNG file.
absl::StatusOr<std::string> EncodePng(const Image& image);
// Whole or not at all.
absl::Status WritePng(const std::string& path, const Image& image);

}  // namespace graticule

#endif  // GRATICULE_DATA_DRAW_H_
