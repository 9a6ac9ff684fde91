#include "data/datasets/synthetic/synthetic.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "data/random.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int64_t kOrientations = 8;
constexpr double kPeriods = 3;  // of the slowest grating over the image's shorter side
constexpr float kAmplitude = 64;
constexpr int64_t kNoise = 48;
constexpr int64_t kNoiseOffsets = 1 << 14;

// cos and sin of step·i + start for i below n.
struct Wave {
  Wave(int64_t n, double step, double start) : cos(n), sin(n) {
    for (int64_t i = 0; i < n; ++i) {
      cos[i] = static_cast<float>(std::cos(step * static_cast<double>(i) + start));
      sin[i] = static_cast<float>(std::sin(step * static_cast<double>(i) + start));
    }
  }
  std::vector<float> cos, sin;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> SyntheticDataset::Create(const Synthetic& config,
                                                                  const DatasetContext& context) {
  FieldErrors errors;
  const auto value_or = [&errors](std::string_view path, int64_t value, int64_t otherwise) {
    if (value < 0) errors.Add(path, absl::StrCat("must not be negative, found ", value));
    return value == 0 ? otherwise : value;
  };
  const int64_t classes = value_or("num_classes", config.num_classes(), 10);
  const int64_t train_size = value_or("train_size", config.train_size(), 1024);
  const int64_t val_size = value_or("val_size", config.val_size(), 256);
  const int64_t height = value_or("height", config.height(), 224);
  const int64_t width = value_or("width", config.width(), height);
  if (errors.empty() && height * width > Image::kMaxPixels) {
    errors.Add("height", absl::StrCat("height × width must be at most 2^28 pixels, found ", height, "x", width));
  }
  if (!errors.empty()) return errors.ToStatus();

  std::unique_ptr<SyntheticDataset> dataset(new SyntheticDataset);
  dataset->size_ = context.split == Split::kTrain ? train_size : val_size;
  dataset->height_ = height;
  dataset->width_ = width;
  dataset->seed_ = config.seed();
  dataset->split_ = context.split;
  for (int64_t label = 0; label < classes; ++label) {
    dataset->class_names_.push_back(absl::StrCat("grating_", label));
  }
  dataset->noise_.resize(Image::kChannels * height * width + kNoiseOffsets);
  Draws draws({config.seed()});
  for (int8_t& noise : dataset->noise_) noise = static_cast<int8_t>(draws.Below(2 * kNoise + 1) - kNoise);
  return dataset;
}

absl::StatusOr<Sample> SyntheticDataset::Read(int64_t index) const {
  Draws draws({seed_, static_cast<uint64_t>(split_), static_cast<uint64_t>(index)});
  const int64_t classes = static_cast<int64_t>(class_names_.size());
  const int64_t label = index % classes;
  const int64_t orientations = std::min(kOrientations, classes);
  const double turn = static_cast<double>(label % orientations) + draws.Uniform(-0.2, 0.2);
  const double angle = std::numbers::pi * turn / static_cast<double>(orientations);
  // Each further octave of classes has gratings that are half as fine again.
  const double periods =
      kPeriods * std::pow(1.5, static_cast<double>(label / kOrientations)) * draws.Uniform(0.95, 1.05);
  const double frequency = 2 * std::numbers::pi * periods / static_cast<double>(std::min(height_, width_));
  const Wave down(height_, frequency * std::sin(angle), draws.Uniform(0, 2 * std::numbers::pi));
  const Wave across(width_, frequency * std::cos(angle), 0);

  Image image{height_, width_, Pixels(Image::kChannels * height_ * width_)};
  const int8_t* noise = noise_.data() + draws.Below(kNoiseOffsets);
  uint8_t* pixel = image.pixels.data();
  for (int64_t y = 0; y < height_; ++y) {
    const float cos = kAmplitude * down.cos[y], sin = kAmplitude * down.sin[y];
    for (int64_t x = 0; x < width_; ++x) {
      // cos(a + b), with the row's and the column's share of the phase.
      const int grey = 128 + static_cast<int>(cos * across.cos[x] - sin * across.sin[x]);
      for (int64_t c = 0; c < Image::kChannels; ++c) *pixel++ = static_cast<uint8_t>(grey + *noise++);
    }
  }
  return Sample{std::move(image), label};
}

std::string SyntheticDataset::SampleName(int64_t index) const {
  return absl::StrCat(split_ == Split::kTrain ? "synthetic/train[" : "synthetic/val[", index, "]");
}

namespace {
const Registration<Dataset, Synthetic> kRegistration(
    "Noisy gratings whose orientation and frequency tell the class; needs no files",
    "num_classes: 4 train_size: 32 val_size: 16 height: 32", &SyntheticDataset::Create);
}  // namespace

}  // namespace graticule
