#include "data/transforms/random_erasing/random_erasing.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

const ErasedBoxes kTimms{.area = {0.02, 1.0 / 3}, .aspect = {0.3, 1 / 0.3}, .min_count = 1, .max_count = 1};

TEST(ErasedBoxesTest, AreaAndLogarithmOfTheAspectAreUniform) {
  // So small a share that the first draw always fits.
  const Size2d image{4000, 4000};
  const ErasedBoxes boxes{.area = {0.02, 0.1}, .aspect = {0.3, 2}, .min_count = 2, .max_count = 2};
  constexpr int kDraws = 10000;
  double area = 0, area2 = 0, log_aspect = 0, log_aspect2 = 0, top = 0, left = 0;
  for (uint64_t key = 0; key < kDraws; ++key) {
    Draws draws({key});
    const std::vector<Box> drawn = boxes.Draw(image, draws);
    ASSERT_EQ(drawn.size(), 2u);
    for (const Box& box : drawn) {
      const double share = static_cast<double>(box.size.area()) / static_cast<double>(image.area());
      const double aspect = std::log(static_cast<double>(box.size.height) / static_cast<double>(box.size.width));
      // Two boxes share the area.
      ASSERT_GE(share, 0.00995);
      ASSERT_LE(share, 0.05005);
      ASSERT_GE(aspect, std::log(0.3) - 0.01);
      ASSERT_LE(aspect, std::log(2) + 0.01);
      area += share / kDraws / 2;
      area2 += share * share / kDraws / 2;
      log_aspect += aspect / kDraws / 2;
      log_aspect2 += aspect * aspect / kDraws / 2;
      top += static_cast<double>(box.top) / static_cast<double>(image.height - box.size.height) / kDraws / 2;
      left += static_cast<double>(box.left) / static_cast<double>(image.width - box.size.width) / kDraws / 2;
    }
  }
  // Mean and variance of a uniform variable on [a, b]: (a+b)/2 and (b-a)²/12.
  EXPECT_NEAR(area, 0.03, 0.0005);
  EXPECT_NEAR(area2 - area * area, 0.04 * 0.04 / 12, 5e-6);
  const double mean = (std::log(0.3) + std::log(2)) / 2;
  EXPECT_NEAR(log_aspect, mean, 0.02);
  EXPECT_NEAR(log_aspect2 - log_aspect * log_aspect, std::pow(std::log(2 / 0.3), 2) / 12, 0.01);
  EXPECT_NEAR(top, 0.5, 0.015);
  EXPECT_NEAR(left, 0.5, 0.015);
}

TEST(ErasedBoxesTest, CountIsUniform) {
  const ErasedBoxes boxes{.area = {0.01, 0.02}, .aspect = {1, 1}, .min_count = 2, .max_count = 4};
  std::vector<int> counts(5);
  for (uint64_t key = 0; key < 3000; ++key) {
    Draws draws({key});
    ++counts[boxes.Draw({100, 100}, draws).size()];
  }
  for (const int count : {2, 3, 4}) EXPECT_NEAR(counts[count], 1000, 130);
}

TEST(ErasedBoxesTest, LiesInsideOfEveryImageAndIsSmaller) {
  for (int64_t height = 1; height < 24; ++height) {
    for (int64_t width = 1; width < 24; ++width) {
      Draws draws({static_cast<uint64_t>(height), static_cast<uint64_t>(width)});
      for (const Box& box : kTimms.Draw({height, width}, draws)) {
        EXPECT_GE(box.top, 0);
        EXPECT_GE(box.left, 0);
        EXPECT_LT(box.size.height, height);
        EXPECT_LT(box.size.width, width);
        EXPECT_LE(box.top + box.size.height, height);
        EXPECT_LE(box.left + box.size.width, width);
      }
    }
  }
}

constexpr ChannelStatistics kStatistics{.mean = {0.5f, 0.25f, 0.1f}, .std = {0.1f, 0.05f, 0.2f}};

std::unique_ptr<Transform> Make(RandomErasing config) {
  config.set_probability(1);
  return *Registry<Transform>::Create(config, {.image_size = {32, 32}, .statistics = kStatistics});
}

// White, which the noise below is not within four deviations.
const Image kUntouched{64, 64, Pixels(3 * 64 * 64, 255)};

TEST(RandomErasingTest, ConstIsTheMeanColour) {
  for (uint64_t key = 0; key < 50; ++key) {
    const Image image = Transformed(*Make({}), kUntouched, key);
    Draws draws({key});
    draws();
    const std::vector<Box> boxes = kTimms.Draw({64, 64}, draws);
    ASSERT_EQ(boxes.size(), 1u);
    for (int64_t y = 0; y < 64; ++y) {
      for (int64_t x = 0; x < 64; ++x) {
        const bool inside = y >= boxes[0].top && y < boxes[0].top + boxes[0].size.height && x >= boxes[0].left &&
                            x < boxes[0].left + boxes[0].size.width;
        const uint8_t* const pixel = image.pixels.data() + 3 * (64 * y + x);
        // 127.5 to even, 63.75, 25.5 (0.1f is a little more than 0.1).
        EXPECT_EQ(pixel[0], inside ? 128 : 255);
        EXPECT_EQ(pixel[1], inside ? 64 : 255);
        EXPECT_EQ(pixel[2], inside ? 26 : 255);
      }
    }
  }
}

// Mean of value^power over a normal variable of this mean and deviation, rounded and clipped to 0 … 255.
double ClippedMoment(double mean, double deviation, int power) {
  const auto distribution = [&](double x) { return 0.5 * std::erfc(-(x - mean) / deviation / std::sqrt(2)); };
  double moment = 0, below = 0;
  for (int value = 0; value < 256; ++value) {
    const double until = value == 255 ? 1 : distribution(value + 0.5);
    moment += (until - below) * std::pow(value, power);
    below = until;
  }
  return moment;
}

TEST(RandomErasingTest, PixelIsIndependentNormalNoise) {
  RandomErasing config;
  config.set_mode(RandomErasing::PIXEL);
  config.set_min_area(0.3);
  const auto transform = Make(config);
  int64_t count = 0;
  double sum[3] = {}, sum2[3] = {}, beside = 0, across = 0;
  for (uint64_t key = 0; key < 200; ++key) {
    const Image image = Transformed(*transform, kUntouched, key);
    Draws draws({key});
    draws();
    for (const Box& box : ErasedBoxes{{0.3, 1.0 / 3}, {0.3, 1 / 0.3}, 1, 1}.Draw({64, 64}, draws)) {
      for (int64_t y = box.top; y < box.top + box.size.height; ++y) {
        for (int64_t x = box.left; x < box.left + box.size.width; ++x) {
          const uint8_t* const pixel = image.pixels.data() + 3 * (64 * y + x);
          ++count;
          for (int c = 0; c < 3; ++c) {
            sum[c] += pixel[c];
            sum2[c] += pixel[c] * pixel[c];
          }
          across += (pixel[0] - 127.5) * (pixel[1] - 63.75);
          if (x > box.left) beside += (pixel[0] - 127.5) * (pixel[-3] - 127.5);
        }
      }
    }
  }
  ASSERT_GT(count, 200000);
  const double n = static_cast<double>(count);
  for (int c = 0; c < 3; ++c) {
    const double mean = 255 * kStatistics.mean[c], deviation = 255 * kStatistics.std[c];
    EXPECT_NEAR(sum[c] / n, ClippedMoment(mean, deviation, 1), 5 * deviation / std::sqrt(n)) << c;
    EXPECT_NEAR(sum2[c] / n / ClippedMoment(mean, deviation, 2), 1, 0.02) << c;
  }
  // Correlations of neighbours and of channels.
  EXPECT_NEAR(beside / n / (25.5 * 25.5), 0, 5 / std::sqrt(n));
  EXPECT_NEAR(across / n / (25.5 * 12.75), 0, 5 / std::sqrt(n));
}

TEST(RandomErasingTest, RandIsOneNormalColourABox) {
  RandomErasing config;
  config.set_mode(RandomErasing::RAND);
  const auto transform = Make(config);
  double sum = 0, sum2 = 0;
  constexpr int kDraws = 3000;
  for (uint64_t key = 0; key < kDraws; ++key) {
    const Image image = Transformed(*transform, kUntouched, key);
    std::set<std::vector<uint8_t>> colours;
    for (size_t i = 0; i < image.pixels.size(); i += 3) {
      colours.emplace(image.pixels.begin() + i, image.pixels.begin() + i + 3);
    }
    ASSERT_EQ(colours.size(), 2u) << key;
    const double red = colours.begin()->at(0);
    sum += red / kDraws;
    sum2 += red * red / kDraws;
  }
  EXPECT_NEAR(sum, 127.5, 5 * 25.5 / std::sqrt(kDraws));
  EXPECT_NEAR(std::sqrt(sum2 - sum * sum), 25.5, 2);
}

TEST(RandomErasingTest, KeepsItsProbability) {
  RandomErasing config;
  config.set_probability(0.25);
  const auto transform = *MakeTransform(config);
  const auto by_default = *MakeTransform(RandomErasing());
  int erased = 0, erased_by_default = 0;
  for (uint64_t key = 0; key < 4000; ++key) {
    erased += Transformed(*transform, kUntouched, key) != kUntouched;
    erased_by_default += Transformed(*by_default, kUntouched, key) != kUntouched;
  }
  EXPECT_NEAR(erased, 1000, 140);
  EXPECT_NEAR(erased_by_default, 2000, 160);
}

TEST(RandomErasingTest, RejectsBadConfigsAllAtOnce) {
  RandomErasing config;
  config.set_probability(1.5);
  config.set_min_area(0.5);
  config.set_max_area(0.4);
  config.set_min_aspect(0);
  config.set_min_count(0);
  config.set_max_count(101);
  const std::string error = ConfigError(config);
  EXPECT_THAT(error, HasSubstr("probability: must be in [0, 1], found 1.5"));
  EXPECT_THAT(error, HasSubstr("max_area: must be at least 0.5, found 0.4"));
  EXPECT_THAT(error, HasSubstr("min_aspect: must be in [0.001, 1000], found 0"));
  EXPECT_THAT(error, HasSubstr("min_count: must be in [1, 100], found 0"));
  EXPECT_THAT(error, HasSubstr("max_count: must be in [1, 100], found 101"));
}

}  // namespace
}  // namespace graticule
