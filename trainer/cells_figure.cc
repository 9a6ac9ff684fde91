#include "trainer/cells_figure.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/draw.h"
#include "data/image_tensor.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

constexpr int64_t kPanelSide = 224;          // images are enlarged up to this
constexpr int64_t kGreatestPanelSide = 448;  // and further, up to this, so that
constexpr int64_t kCellSide = 14;            // a cell is at least so wide
constexpr int64_t kGap = 12;
constexpr int64_t kTextScale = 2;
constexpr int64_t kLine = 28;  // height of a line of text
constexpr Color kBackground = {24, 24, 28};
constexpr Color kText = {224, 224, 228};
constexpr Color kFaintText = {150, 150, 158};

constexpr double kCrossOpacity = 0.8;

// Corners of the colour map.
constexpr Color kTopLeft = {255, 204, 64};
constexpr Color kTopRight = {236, 72, 120};
constexpr Color kBottomLeft = {24, 176, 148};
constexpr Color kBottomRight = {56, 72, 214};

double Linear(uint8_t value) { return std::pow(value / 255.0, 2.2); }

// White or black, whichever is seen better on the colour.
Color Contrast(Color colour) {
  const double luminance = 0.2126 * Linear(colour[0]) + 0.7152 * Linear(colour[1]) + 0.0722 * Linear(colour[2]);
  return luminance > 0.25 ? kBlack : kWhite;
}

void Cross(Canvas& canvas, const Box& cell, Color colour) {
  const int64_t side = std::min(cell.size.height, cell.size.width);
  const int64_t stroke = std::max<int64_t>(1, side / 12), arm = side / 2 - stroke;
  const int64_t top = cell.top + (cell.size.height - arm) / 2, left = cell.left + (cell.size.width - arm) / 2;
  for (int64_t i = 0; i < arm; ++i) {
    canvas.Fill({top + i, left + i, {1, stroke}}, colour, kCrossOpacity);
    canvas.Fill({top + i, left + arm - 1 - i, {1, stroke}}, colour, kCrossOpacity);
  }
}

// A rectangle of the picture that is divided into the cells of a grid.
class Panel {
 public:
  Panel(Size2d size, Size2d grid) : size_(size), grid_(grid) {}

  Box Cell(int64_t cell) const {
    const int64_t row = cell / grid_.width, column = cell % grid_.width;
    const int64_t top = row * size_.height / grid_.height, left = column * size_.width / grid_.width;
    return {
        top, left, {(row + 1) * size_.height / grid_.height - top, (column + 1) * size_.width / grid_.width - left}};
  }

  // The seams between the cells.
  void DrawGrid(Canvas& canvas, int64_t top, int64_t left, Color colour, double opacity) const {
    for (int64_t row = 1; row < grid_.height; ++row) {
      canvas.Fill({top + row * size_.height / grid_.height, left, {1, size_.width}}, colour, opacity);
    }
    for (int64_t column = 1; column < grid_.width; ++column) {
      canvas.Fill({top, left + column * size_.width / grid_.width, {size_.height, 1}}, colour, opacity);
    }
  }

  // `said`: of each cell.
  void DrawMap(Canvas& canvas, int64_t top, int64_t left, const int64_t* said) const {
    for (int64_t cell = 0; cell < grid_.area(); ++cell) {
      Box box = Cell(cell);
      box.top += top;
      box.left += left;
      const Color colour = CellColor(said[cell], grid_);
      canvas.Fill(box, colour);
      if (said[cell] != cell) Cross(canvas, box, Contrast(colour));
    }
    DrawGrid(canvas, top, left, kBackground, 0.35);
  }

 private:
  Size2d size_;
  Size2d grid_;
};

int64_t CountFound(const int64_t* said, int64_t cells) {
  int64_t found = 0;
  for (int64_t cell = 0; cell < cells; ++cell) found += said[cell] == cell;
  return found;
}

void WriteCentred(Canvas& canvas, const std::string& text, const Box& box, int64_t scale, Color colour) {
  const std::string cut = CutText(text, scale, box.size.width);
  canvas.Write(cut, box.top + (box.size.height - TextHeight(scale)) / 2,
               box.left + (box.size.width - TextWidth(cut, scale)) / 2, scale, colour);
}

std::string Percent(int64_t found, int64_t all) { return absl::StrFormat("%.1f %%", 100.0 * found / all); }

}  // namespace

Color CellColor(int64_t cell, Size2d grid) {
  const double y = grid.height > 1 ? static_cast<double>(cell / grid.width) / (grid.height - 1) : 0.5;
  const double x = grid.width > 1 ? static_cast<double>(cell % grid.width) / (grid.width - 1) : 0.5;
  Color mixed;
  for (int c = 0; c < 3; ++c) {
    const double light = (1 - y) * ((1 - x) * Linear(kTopLeft[c]) + x * Linear(kTopRight[c])) +
                         y * ((1 - x) * Linear(kBottomLeft[c]) + x * Linear(kBottomRight[c]));
    mixed[c] = static_cast<uint8_t>(std::lround(255 * std::pow(light, 1 / 2.2)));
  }
  return mixed;
}

Image DrawCells(const at::Tensor& images, Size2d grid, const at::Tensor& predicted) {
  const int64_t count = images.size(0), cells = grid.area();
  CHECK_EQ(predicted.numel(), count * cells);
  const at::Tensor said = predicted.to(at::kCPU).contiguous();
  const Size2d size{images.size(2), images.size(3)};
  int64_t factor = std::max<int64_t>(1, kPanelSide / std::max(size.height, size.width));
  const auto cells_are_small = [&] {
    return factor * size.height < kCellSide * grid.height || factor * size.width < kCellSide * grid.width;
  };
  while (cells_are_small() && (factor + 1) * std::max(size.height, size.width) <= kGreatestPanelSide) ++factor;
  const Size2d side{factor * size.height, factor * size.width};
  const Panel panel(side, grid);
  const int64_t captions = kGap + side.height, maps = captions + kLine;
  Canvas canvas({maps + side.height + kGap, kGap + (count + 1) * (side.width + kGap)}, kBackground);

  std::vector<int64_t> places(cells);
  std::iota(places.begin(), places.end(), 0);
  panel.DrawMap(canvas, kGap, kGap, places.data());
  WriteCentred(canvas, "cell colours", {captions, kGap, {kLine, side.width}}, kTextScale, kFaintText);

  int64_t all_found = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t left = kGap + (i + 1) * (side.width + kGap);
    const int64_t* of_image = said.const_data_ptr<int64_t>() + i * cells;
    const int64_t found = CountFound(of_image, cells);
    canvas.Draw(ImageOf(images, i), kGap, left, factor);
    panel.DrawGrid(canvas, kGap, left, kWhite, 0.35);
    WriteCentred(canvas, Percent(found, cells), {captions, left, {kLine, side.width}}, kTextScale, kText);
    panel.DrawMap(canvas, maps, left, of_image);
    all_found += found;
  }

  int64_t line = maps + (side.height - 5 * kLine) / 2;
  const auto write = [&](const std::string& text, int64_t scale, Color colour) {
    WriteCentred(canvas, text, {line, kGap, {scale / kTextScale * kLine, side.width}}, scale, colour);
    line += scale / kTextScale * kLine;
  };
  write(Percent(all_found, count * cells), 2 * kTextScale, kText);
  write(absl::StrCat("of ", count * cells, " patches"), kTextScale, kFaintText);
  write("know their cell", kTextScale, kFaintText);
  write("x: a wrong cell", kTextScale, kFaintText);
  return canvas.image();
}

}  // namespace graticule
