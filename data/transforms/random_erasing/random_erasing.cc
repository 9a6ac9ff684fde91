#include "data/transforms/random_erasing/random_erasing.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "data/transforms/geometry.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int kTries = 10;
constexpr int kMaxCount = 100;
constexpr int kQuantileBits = 16;
constexpr int kQuantiles = 1 << kQuantileBits;
constexpr int64_t kPixel = Image::kChannels;

double NormalDistribution(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

// The quantiles of a normal variable that was rounded and clipped to 0 … 255.
std::vector<uint8_t> PixelQuantiles(double mean, double deviation) {
  std::vector<uint8_t> quantiles(kQuantiles);
  int value = 0;
  for (int i = 0; i < kQuantiles; ++i) {
    const double probability = (i + 0.5) / kQuantiles;
    while (value < 255 && NormalDistribution((value + 0.5 - mean) / deviation) < probability) ++value;
    quantiles[i] = static_cast<uint8_t>(value);
  }
  return quantiles;
}

}  // namespace

std::vector<Box> ErasedBoxes::Draw(Size2d image, Draws& draws) const {
  const int64_t count = min_count + draws.Below(max_count - min_count + 1);
  std::vector<Box> boxes;
  for (int64_t i = 0; i < count; ++i) {
    for (int attempt = 0; attempt < kTries; ++attempt) {
      const double wanted = draws.Uniform(area.low, area.high) * static_cast<double>(image.area()) / count;
      const double ratio = std::exp(draws.Uniform(std::log(aspect.low), std::log(aspect.high)));
      const Size2d size{RoundHalfToEven(std::sqrt(wanted * ratio)), RoundHalfToEven(std::sqrt(wanted / ratio))};
      if (size.height >= image.height || size.width >= image.width) continue;
      boxes.push_back(DrawBox(image, size, draws));
      break;
    }
  }
  return boxes;
}

absl::StatusOr<std::unique_ptr<Transform>> RandomErasingTransform::Create(const RandomErasing& config,
                                                                          const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 0.5;
  ErasedBoxes boxes;
  boxes.area = {config.has_min_area() ? config.min_area() : 0.02, config.has_max_area() ? config.max_area() : 1.0 / 3};
  boxes.aspect.low = config.has_min_aspect() ? config.min_aspect() : 0.3;
  boxes.aspect.high = config.has_max_aspect() ? config.max_aspect() : 1 / boxes.aspect.low;
  boxes.min_count = config.has_min_count() ? config.min_count() : 1;
  boxes.max_count = config.has_max_count() ? config.max_count() : boxes.min_count;

  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  const auto check = [&errors](const char* path, double found, double low, double high) {
    if (!(found >= low && found <= high)) {
      errors.Add(path, absl::StrCat("must be in [", low, ", ", high, "], found ", found));
    }
  };
  check("min_area", boxes.area.low, 0, 1);
  check("max_area", boxes.area.high, 0, 1);
  check("min_aspect", boxes.aspect.low, 1e-3, 1e3);
  check("max_aspect", boxes.aspect.high, 1e-3, 1e3);
  check("min_count", static_cast<double>(boxes.min_count), 1, kMaxCount);
  check("max_count", static_cast<double>(boxes.max_count), 1, kMaxCount);
  const auto check_order = [&errors](const char* path, double least, double greatest) {
    if (least > greatest) errors.Add(path, absl::StrCat("must be at least ", least, ", found ", greatest));
  };
  check_order("max_area", boxes.area.low, boxes.area.high);
  check_order("max_aspect", boxes.aspect.low, boxes.aspect.high);
  check_order("max_count", static_cast<double>(boxes.min_count), static_cast<double>(boxes.max_count));
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Transform>(new RandomErasingTransform(probability, boxes, config.mode(), context.statistics));
}

RandomErasingTransform::RandomErasingTransform(double probability, const ErasedBoxes& boxes, RandomErasing::Mode mode,
                                               const ChannelStatistics& statistics)
    : probability_(probability), boxes_(boxes), mode_(mode), mean_(MeanColor(statistics)) {
  if (mode_ != RandomErasing::RAND && mode_ != RandomErasing::PIXEL) return;
  for (int64_t c = 0; c < kPixel; ++c) {
    quantiles_[c] = PixelQuantiles(255.0 * statistics.mean[c], 255.0 * statistics.std[c]);
  }
}

void RandomErasingTransform::Apply(Image& image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return;
  for (const Box& box : boxes_.Draw(image.size(), draws)) Erase(box, image, draws);
}

Color RandomErasingTransform::Noise(Draws& draws) const {
  const uint64_t bits = draws();
  static_assert(kPixel * kQuantileBits <= 64);
  Color color;
  for (int64_t c = 0; c < kPixel; ++c) color[c] = quantiles_[c][bits >> (kQuantileBits * c) & (kQuantiles - 1)];
  return color;
}

void RandomErasingTransform::Erase(const Box& box, Image& image, Draws& draws) const {
  const Color colour = mode_ == RandomErasing::RAND ? Noise(draws) : mean_;
  for (int64_t y = box.top; y < box.top + box.size.height; ++y) {
    uint8_t* const row = image.pixels.data() + kPixel * (y * image.width + box.left);
    for (int64_t x = 0; x < box.size.width; ++x) {
      const Color pixel = mode_ == RandomErasing::PIXEL ? Noise(draws) : colour;
      std::memcpy(row + kPixel * x, pixel.data(), kPixel);
    }
  }
}

namespace {
const Registration<Transform, RandomErasing> kRegistration("Erases random boxes, by chance",
                                                           "probability: 0.25 mode: PIXEL",
                                                           &RandomErasingTransform::Create);
}  // namespace

}  // namespace graticule
