#include "app/batch_figure.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/draw.h"
#include "data/image_tensor.h"

namespace graticule {
namespace {

constexpr int64_t kCellSide = 224;
constexpr int64_t kGreatestPanelSide = 1600;
constexpr int64_t kGap = 8;
constexpr int64_t kTextScale = 2;
constexpr int64_t kLine = 24;         // height of a line of a label
constexpr double kLeastShare = 0.01;  // of a class that is named
constexpr Color kBackground = {96, 96, 96};
constexpr Color kBar = {24, 24, 24};
constexpr Color kGridLine = {255, 220, 0};

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::string ClassName(int64_t label, const std::vector<std::string>& class_names) {
  const bool named = label >= 0 && label < static_cast<int64_t>(class_names.size());
  return named ? class_names[label] : absl::StrCat("class ", label);
}

// The name may be cut, the share not.
std::string NameWithShare(const std::string& name, double share, int64_t width) {
  const std::string suffix = absl::StrFormat(" %.2f", share);
  return CutText(name, kTextScale, width - TextWidth(suffix, kTextScale)) + suffix;
}

// The lines under an image that is `width` wide.
std::vector<std::string> LabelLines(const Batch& batch, int64_t index, const std::vector<std::string>& class_names,
                                    int64_t width) {
  if (!batch.soft_labels.defined()) {
    const int64_t label = batch.labels.const_data_ptr<int64_t>()[index];
    return {CutText(ClassName(label, class_names), kTextScale, width)};
  }
  const at::Tensor shares = batch.soft_labels.select(0, index);
  const auto [values, labels] = shares.topk(std::min<int64_t>(2, shares.size(0)));
  std::vector<std::string> lines;
  for (int64_t i = 0; i < values.size(0); ++i) {
    const double share = values[i].item<double>();
    if (i > 0 && share < kLeastShare) break;
    lines.push_back(NameWithShare(ClassName(labels[i].item<int64_t>(), class_names), share, width));
  }
  return lines;
}

void WriteLines(Canvas& canvas, const std::vector<std::string>& lines, int64_t top, int64_t left) {
  for (const std::string& line : lines) {
    canvas.Write(line, top + (kLine - TextHeight(kTextScale)) / 2, left, kTextScale, kWhite);
    top += kLine;
  }
}

// The first image with its patches.
class PatchPanel {
 public:
  PatchPanel(Size2d image, Size2d grid, int64_t least_factor) : image_(image), grid_(grid) {
    const std::string widest = absl::StrCat(grid.area() - 1);
    const int64_t greatest_factor = std::max(least_factor, kGreatestPanelSide / std::max(image.height, image.width));
    for (scale_ = kTextScale; scale_ >= 1; --scale_) {
      label_ = {TextHeight(scale_) + 4 * scale_, TextWidth(widest, scale_) + 2 * scale_};
      factor_ = std::max({least_factor, CeilDiv(label_.height * grid.height, image.height),
                          CeilDiv(label_.width * grid.width, image.width)});
      if (factor_ <= greatest_factor || scale_ == 1) break;
    }
    factor_ = std::min(factor_, greatest_factor);
  }

  Size2d size() const { return {factor_ * image_.height, factor_ * image_.width}; }
  std::string Caption() const {
    return CutText(
        absl::StrCat(grid_.height, "x", grid_.width, " patches with positional labels 0 to ", grid_.area() - 1),
        kTextScale, size().width);
  }

  void DrawOn(Canvas& canvas, const Image& image, int64_t top, int64_t left) const {
    canvas.Draw(image, top, left, factor_);
    for (int64_t row = 1; row < grid_.height; ++row) {
      canvas.Fill({top + Edge(row, grid_.height, size().height), left, {1, size().width}}, kGridLine);
    }
    for (int64_t column = 1; column < grid_.width; ++column) {
      canvas.Fill({top, left + Edge(column, grid_.width, size().width), {size().height, 1}}, kGridLine);
    }
    // Where patches are narrower than their numbers not each has one.
    const int64_t every_row = CeilDiv(label_.height * grid_.height, size().height);
    const int64_t every_column = CeilDiv(label_.width * grid_.width, size().width);
    for (int64_t row = 0; row < grid_.height; row += every_row) {
      for (int64_t column = 0; column < grid_.width; column += every_column) {
        const std::string label = absl::StrCat(row * grid_.width + column);
        const int64_t y = top + Edge(row, grid_.height, size().height) + 1;
        const int64_t x = left + Edge(column, grid_.width, size().width) + 1;
        canvas.Fill({y, x, {label_.height - 2 * scale_, TextWidth(label, scale_) + scale_}}, kBlack, 0.6);
        canvas.Write(label, y + scale_, x + scale_, scale_, kWhite);
      }
    }
  }

 private:
  static int64_t Edge(int64_t patch, int64_t patches, int64_t side) { return patch * side / patches; }

  Size2d image_;
  Size2d grid_;
  int64_t scale_;  // of the numbers
  Size2d label_;   // room of a number
  int64_t factor_;
};

}  // namespace

Image DrawBatch(const Batch& batch, int64_t images, const std::vector<std::string>& class_names,
                std::optional<Size2d> grid) {
  images = std::min(images, batch.size());
  const Size2d size{batch.images.size(2), batch.images.size(3)};
  const int64_t factor = std::max<int64_t>(1, kCellSide / std::max(size.height, size.width));
  const Size2d cell{factor * size.height, factor * size.width};
  std::vector<std::vector<std::string>> labels;
  int64_t bar = kLine;
  for (int64_t i = 0; i < images; ++i) {
    labels.push_back(LabelLines(batch, i, class_names, cell.width - kGap));
    bar = std::max(bar, kLine * static_cast<int64_t>(labels.back().size()));
  }

  const auto columns = static_cast<int64_t>(std::ceil(std::sqrt(images)));
  const int64_t rows = CeilDiv(images, columns);
  Size2d whole{kGap + rows * (cell.height + bar + kGap), kGap + columns * (cell.width + kGap)};
  std::optional<PatchPanel> panel;
  int64_t cells_left = kGap;
  if (grid) {
    // As high as the cells beside it, but not small.
    panel.emplace(size, *grid, std::max(2 * factor, (whole.height - 2 * kGap - kLine) / size.height));
    cells_left += panel->size().width + kGap;
    whole = {std::max(whole.height, kGap + panel->size().height + kLine + kGap),
             whole.width + panel->size().width + kGap};
  }
  Canvas canvas(whole, kBackground);
  if (panel) {
    panel->DrawOn(canvas, ImageOf(batch.images, 0), kGap, kGap);
    canvas.Fill({kGap + panel->size().height, kGap, {kLine, panel->size().width}}, kBar);
    WriteLines(canvas, {panel->Caption()}, kGap + panel->size().height, kGap + kGap / 2);
  }
  for (int64_t i = 0; i < images; ++i) {
    const int64_t top = kGap + i / columns * (cell.height + bar + kGap);
    const int64_t left = cells_left + i % columns * (cell.width + kGap);
    canvas.Draw(ImageOf(batch.images, i), top, left, factor);
    canvas.Fill({top + cell.height, left, {bar, cell.width}}, kBar);
    WriteLines(canvas, labels[i], top + cell.height, left + kGap / 2);
  }
  return canvas.image();
}

}  // namespace graticule
