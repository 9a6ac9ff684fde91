#include "data/datasets/synthetic/synthetic.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

Synthetic Config(int32_t num_classes, int32_t height, int32_t width) {
  Synthetic config;
  config.set_num_classes(num_classes);
  config.set_height(height);
  config.set_width(width);
  config.set_train_size(200);
  config.set_val_size(100);
  return config;
}

std::unique_ptr<Dataset> Make(const Synthetic& config, Split split = Split::kTrain) {
  absl::StatusOr<std::unique_ptr<Dataset>> dataset = Registry<Dataset>::Create(config, DatasetContext{split});
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  return std::move(*dataset);
}

Image ImageOf(const Dataset& dataset, int64_t index) { return std::get<Image>(dataset.Read(index)->image); }

TEST(SyntheticTest, HasTheSizesAndClassesThatAreAskedFor) {
  const Synthetic config = Config(7, 12, 20);
  const std::unique_ptr<Dataset> train = Make(config), val = Make(config, Split::kVal);
  EXPECT_EQ(train->size(), 200);
  EXPECT_EQ(val->size(), 100);
  EXPECT_EQ(train->class_names().size(), 7u);
  const Image image = ImageOf(*train, 3);
  EXPECT_EQ(image.height, 12);
  EXPECT_EQ(image.width, 20);
  EXPECT_EQ(image.pixels.size(), 3u * 12 * 20);
  std::vector<int64_t> counts(7);
  for (int64_t i = 0; i < train->size(); ++i) ++counts[train->Read(i)->label];
  EXPECT_LE(*std::max_element(counts.begin(), counts.end()) - *std::min_element(counts.begin(), counts.end()), 1);
}

TEST(SyntheticTest, HasDefaults) {
  const std::unique_ptr<Dataset> train = Make(Synthetic());
  EXPECT_EQ(train->size(), 1024);
  EXPECT_EQ(train->class_names().size(), 10u);
  EXPECT_EQ(ImageOf(*train, 0).height, 224);
  EXPECT_EQ(ImageOf(*train, 0).width, 224);
  EXPECT_EQ(Make(Synthetic(), Split::kVal)->size(), 256);
}

TEST(SyntheticTest, ImagesAreAFunctionOfSeedSplitAndIndex) {
  Synthetic config = Config(4, 16, 16);
  const Image image = ImageOf(*Make(config), 5);
  EXPECT_EQ(image, ImageOf(*Make(config), 5));
  EXPECT_NE(image, ImageOf(*Make(config), 9));  // of the same class
  EXPECT_NE(image, ImageOf(*Make(config, Split::kVal), 5));
  config.set_seed(1);
  EXPECT_NE(image, ImageOf(*Make(config), 5));
}

// Power of the image's grating of one direction and so many periods over the shorter side.
double Power(const Image& image, double angle, double periods) {
  const double frequency = 2 * std::numbers::pi * periods / static_cast<double>(std::min(image.height, image.width));
  double real = 0, imaginary = 0;
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const double phase =
          frequency * (static_cast<double>(x) * std::cos(angle) + static_cast<double>(y) * std::sin(angle));
      const double value = image.pixels[3 * (image.width * y + x)] - 128.0;
      real += value * std::cos(phase);
      imaginary += value * std::sin(phase);
    }
  }
  return real * real + imaginary * imaginary;
}

// The class whose nominal grating the image holds most of.
TEST(SyntheticTest, TheGratingTellsTheClass) {
  for (const auto& [classes, height, width] : {std::tuple{4, 16, 16}, {10, 32, 48}, {16, 64, 64}}) {
    const std::unique_ptr<Dataset> dataset = Make(Config(classes, height, width));
    int right = 0;
    for (int64_t i = 0; i < dataset->size(); ++i) {
      const absl::StatusOr<Sample> sample = dataset->Read(i);
      std::vector<double> powers;
      for (int label = 0; label < classes; ++label) {
        const int orientations = std::min(classes, 8);
        powers.push_back(Power(std::get<Image>(sample->image), std::numbers::pi * (label % orientations) / orientations,
                               3 * std::pow(1.5, label / 8)));
      }
      right += std::max_element(powers.begin(), powers.end()) - powers.begin() == sample->label;
    }
    EXPECT_GE(right, 190) << classes << " classes";
  }
}

TEST(SyntheticTest, RejectsBadConfigs) {
  Synthetic config = Config(-1, -2, 8);
  config.set_train_size(-3);
  const std::string message(Registry<Dataset>::Create(config, DatasetContext{}).status().message());
  EXPECT_THAT(message, HasSubstr("num_classes: must not be negative, found -1"));
  EXPECT_THAT(message, HasSubstr("height: must not be negative, found -2"));
  EXPECT_THAT(message, HasSubstr("train_size: must not be negative, found -3"));
  const Synthetic huge = Config(2, 100000, 100000);
  EXPECT_THAT(std::string(Registry<Dataset>::Create(huge, DatasetContext{}).status().message()),
              HasSubstr("at most 2^28 pixels, found 100000x100000"));
}

}  // namespace
}  // namespace graticule
