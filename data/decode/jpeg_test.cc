#include "data/decode/jpeg.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/decode/test_jpeg.h"
#include "data/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

std::string Name(const TestJpeg& jpeg) {
  return testing::PrintToString(std::vector<int>{jpeg.components, jpeg.sampling[0], jpeg.sampling[1], jpeg.quality,
                                                 jpeg.restart_interval, jpeg.optimized, jpeg.progressive,
                                                 jpeg.interleaved, jpeg.noise}) +
         " of " + std::to_string(jpeg.height) + "x" + std::to_string(jpeg.width);
}

RegionChooser Always(const Box& window, Size2d target) {
  return [window, target](Size2d) { return WantedRegion{window, target}; };
}

Box DrawWindow(Size2d size, Draws& draws) {
  const int64_t height = 1 + draws.Below(size.height), width = 1 + draws.Below(size.width);
  return {draws.Below(size.height - height + 1), draws.Below(size.width - width + 1), {height, width}};
}

TEST(DecodeJpegTest, WholeImagesAreLibjpegs) {
  for (const Size2d size : {Size2d{1, 1}, {8, 16}, {37, 53}, {65, 129}}) {
    for (const TestJpeg& config : TestJpegs(size.height, size.width)) {
      const std::string bytes = Encode(config);
      const absl::StatusOr<DecodedRegion> decoded = DecodeJpeg(bytes, {}, nullptr);
      ASSERT_TRUE(decoded.ok()) << decoded.status() << Name(config);
      EXPECT_EQ(decoded->image, ToRgb(*DecodeByLibjpeg(bytes))) << Name(config);
      EXPECT_EQ(decoded->window, (Box{0, 0, size}));
    }
  }
}

TEST(DecodeJpegTest, WindowsAreThoseOfTheWholeImage) {
  for (const Size2d size : {Size2d{1, 3}, {37, 53}, {131, 117}}) {
    for (const TestJpeg& config : TestJpegs(size.height, size.width)) {
      const std::string bytes = Encode(config);
      const Image whole = ToRgb(*DecodeByLibjpeg(bytes));
      for (uint64_t i = 0; i < 40; ++i) {
        Draws draws({i});
        const Box window = DrawWindow(size, draws);
        const absl::StatusOr<DecodedRegion> decoded = DecodeJpeg(bytes, {}, Always(window, window.size));
        ASSERT_TRUE(decoded.ok()) << decoded.status();
        ASSERT_EQ(Cut(decoded->image, decoded->window), Cut(whole, window))
            << Name(config) << ": "
            << testing::PrintToString(
                   std::vector<int64_t>{window.top, window.left, window.size.height, window.size.width});
      }
    }
  }
}

TEST(DecodeJpegTest, LargeWindowsAreThoseOfTheScaledImage) {
  const Size2d size{131, 117};
  for (const TestJpeg& config : TestJpegs(size.height, size.width)) {
    const std::string bytes = Encode(config);
    for (const int denominator : {2, 4, 8}) {
      const Image whole = ToRgb(*DecodeByLibjpeg(bytes, denominator));
      for (uint64_t i = 0; i < 20; ++i) {
        Draws draws({i});
        const Box window{draws.Below(65), draws.Below(58), {66 - draws.Below(9), 59 - draws.Below(9)}};
        const Size2d target{window.size.height / denominator - draws.Below(2),
                            window.size.width / denominator - draws.Below(2)};
        const absl::StatusOr<DecodedRegion> decoded = DecodeJpeg(bytes, {}, Always(window, target));
        ASSERT_TRUE(decoded.ok()) << decoded.status();
        // The same part of the image, to the nearest pixel.
        const Box& found = decoded->window;
        ASSERT_GE(found.size.height, target.height);
        ASSERT_GE(found.size.width, target.width);
        Box scaled{(window.top + denominator / 2) / denominator, (window.left + denominator / 2) / denominator,
                   found.size};
        EXPECT_NEAR(denominator * (scaled.top + found.size.height), window.top + window.size.height, denominator / 2);
        EXPECT_NEAR(denominator * (scaled.left + found.size.width), window.left + window.size.width, denominator / 2);
        ASSERT_EQ(Cut(decoded->image, found), Cut(whole, scaled)) << Name(config) << " at 1/" << denominator;
      }
    }
  }
}

TEST(DecodeJpegTest, NoScaleLeavesLessThanTheTarget) {
  const std::string bytes = Encode({.height = 64, .width = 96});
  const auto decoded = [&bytes](Size2d target) {
    const absl::StatusOr<DecodedRegion> region = DecodeJpeg(bytes, {}, Always({0, 0, {64, 96}}, target));
    EXPECT_EQ(region->window.size, region->image.size());
    return region->image.size();
  };
  EXPECT_EQ(decoded({32, 32}), (Size2d{32, 48}));
  EXPECT_EQ(decoded({33, 32}), (Size2d{64, 96}));
  EXPECT_EQ(decoded({16, 25}), (Size2d{32, 48}));
  EXPECT_EQ(decoded({16, 24}), (Size2d{16, 24}));
  EXPECT_EQ(decoded({1, 1}), (Size2d{8, 12}));
}

TEST(DecodeJpegTest, WhoWantsNoRegionGetsTheWholeImage) {
  const std::string bytes = Encode({.height = 40, .width = 50});
  int calls = 0;
  const auto choose = [&calls](Size2d size) -> std::optional<WantedRegion> {
    ++calls;
    EXPECT_EQ(size, (Size2d{40, 50}));
    return std::nullopt;
  };
  EXPECT_EQ(DecodeJpeg(bytes, {}, choose)->image, ToRgb(*DecodeByLibjpeg(bytes)));
  EXPECT_EQ(calls, 1);
  // Of a file that is read again, libjpeg's way, too.
  calls = 0;
  EXPECT_FALSE(DecodeJpeg(bytes.substr(0, bytes.size() / 2 + 200), {}, choose).ok());
  EXPECT_EQ(calls, 1);
}

TEST(DecodeJpegTest, TruncatedFilesAreSo) {
  for (const TestJpeg& config : {TestJpeg{.height = 64, .width = 40},
                                 {.height = 64, .width = 40, .restart_interval = 2},
                                 {.height = 64, .width = 40, .progressive = true},
                                 {.height = 64, .width = 40, .interleaved = false}}) {
    const std::string bytes = Encode(config);
    for (size_t size = 3; size < bytes.size(); ++size) {
      const std::string_view prefix = std::string_view(bytes).substr(0, size);
      ASSERT_EQ(DecodeJpeg(prefix, {}, nullptr).status().code(), absl::StatusCode::kOutOfRange) << size;
      // Even if the window does not need what is missing.
      ASSERT_EQ(DecodeJpeg(prefix, {}, Always({0, 0, {8, 40}}, {8, 40})).status().code(), absl::StatusCode::kOutOfRange)
          << size;
    }
    EXPECT_TRUE(DecodeJpeg(bytes + "junk", {}, Always({0, 0, {8, 40}}, {8, 40})).ok());
  }
}

TEST(DecodeJpegTest, TruncatedFilesCanBeKept) {
  const DecodeOptions keep{.keep_truncated = true};
  const TestJpeg config{.height = 64, .width = 40};
  const std::string bytes = Encode(config), half = bytes.substr(0, bytes.size() - 700);
  const Image whole = ToRgb(*DecodeByLibjpeg(bytes));
  const absl::StatusOr<DecodedRegion> decoded = DecodeJpeg(half, keep, nullptr);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(Cut(decoded->image, {0, 0, {14, 40}}), Cut(whole, {0, 0, {14, 40}}));
  const Image rest = Cut(decoded->image, {52, 0, {12, 40}});
  EXPECT_TRUE(std::all_of(rest.pixels.begin(), rest.pixels.end(), [](uint8_t value) { return value == 128; }));
  for (const Box& window : {Box{0, 0, {14, 40}}, {20, 10, {40, 20}}, {60, 0, {4, 4}}}) {
    const absl::StatusOr<DecodedRegion> region = DecodeJpeg(half, keep, Always(window, window.size));
    ASSERT_TRUE(region.ok()) << region.status();
    EXPECT_EQ(Cut(region->image, region->window), Cut(decoded->image, window));
  }
  // Without a whole header there is nothing to keep, and damage is another thing.
  EXPECT_EQ(DecodeJpeg(bytes.substr(0, 300), keep, nullptr).status().code(), absl::StatusCode::kOutOfRange);
  std::string damaged = Encode({.height = 64, .width = 40, .restart_interval = 1});
  damaged.erase(damaged.find("\xff\xd0"), 2);
  EXPECT_EQ(DecodeJpeg(damaged, keep, nullptr).status().code(), absl::StatusCode::kDataLoss);
}

TEST(DecodeJpegTest, VerdictsOnDamageAreLibjpegs) {
  int broken = 0, whole = 0;
  for (const TestJpeg& config : TestJpegs(24, 40)) {
    const std::string original = Encode(config);
    const size_t scan = original.find("\xff\xda");
    for (uint64_t trial = 0; trial < 60; ++trial) {
      Draws draws({trial});
      std::string bytes = original;
      const auto place = [&] { return scan + draws.Below(static_cast<int64_t>(bytes.size() - scan)); };
      for (int64_t changes = draws.Below(3); changes >= 0; --changes)
        bytes[place()] = static_cast<char>(draws.Below(256));
      if (draws.Bernoulli(0.2)) bytes.erase(place(), draws.Below(4));
      if (draws.Bernoulli(0.2)) bytes.insert(place(), draws.Bernoulli(0.5) ? "\xff" : "x");
      const std::optional<Samples> expected = DecodeByLibjpeg(bytes);
      const absl::StatusOr<DecodedRegion> decoded = DecodeJpeg(bytes, {}, nullptr);
      ASSERT_EQ(decoded.ok(), expected.has_value()) << decoded.status() << Name(config) << " trial " << trial;
      if (expected) EXPECT_EQ(decoded->image, ToRgb(*expected));
      ++(expected ? whole : broken);
    }
  }
  EXPECT_GT(broken, 200);
  EXPECT_GT(whole, 200);
}

TEST(DecodeJpegTest, OddButSoundFilesAreDecoded) {
  const std::string bytes = Encode({.height = 24, .width = 40, .restart_interval = 1});
  const Image image = ToRgb(*DecodeByLibjpeg(bytes));
  std::string filled = bytes;  // any number of 0xff may stand before a marker
  filled.insert(filled.find("\xff\xd1"), "\xff\xff");
  filled.insert(filled.size() - 2, "\xff");
  EXPECT_EQ(DecodeJpeg(filled, {}, nullptr)->image, image);
}

TEST(DecodeJpegTest, LargerOnesThanAllowedAreRefused) {
  const std::string bytes = Encode({.height = 24, .width = 40});
  EXPECT_TRUE(DecodeJpeg(bytes, {.max_pixels = 960}, nullptr).ok());
  const absl::Status status = DecodeJpeg(bytes, {.max_pixels = 959}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("24x40 is more than 959 pixels"));
}

}  // namespace
}  // namespace graticule
