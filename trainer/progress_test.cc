#include "trainer/progress.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST(ProgressTest, ThousandsAreParted) {
  EXPECT_EQ(WithThousands(0), "0");
  EXPECT_EQ(WithThousands(7), "7");
  EXPECT_EQ(WithThousands(999), "999");
  EXPECT_EQ(WithThousands(1000), "1,000");
  EXPECT_EQ(WithThousands(100000), "100,000");
  EXPECT_EQ(WithThousands(1234567), "1,234,567");
  EXPECT_EQ(WithThousands(int64_t{9007199254740993}), "9,007,199,254,740,993");
  EXPECT_EQ(WithThousands(-1), "-1");
  EXPECT_EQ(WithThousands(-100), "-100");
  EXPECT_EQ(WithThousands(-1234), "-1,234");
}

TEST(ProgressTest, SecondsReadAsAClock) {
  EXPECT_EQ(FormatSeconds(0), "0:00");
  EXPECT_EQ(FormatSeconds(-3), "0:00");
  EXPECT_EQ(FormatSeconds(7.4), "0:07");
  EXPECT_EQ(FormatSeconds(59.6), "1:00");
  EXPECT_EQ(FormatSeconds(750), "12:30");
  EXPECT_EQ(FormatSeconds(3599.4), "59:59");
  EXPECT_EQ(FormatSeconds(3599.5), "1:00:00");
  EXPECT_EQ(FormatSeconds(3723), "1:02:03");
  EXPECT_EQ(FormatSeconds(100 * 3600 + 59), "100:00:59");
}

TEST(ProgressTest, ALineSaysEverythingThatIsKnown) {
  const Progress progress{.step = 1120,
                          .total_steps = 14000,
                          .epoch = 3.44,
                          .epochs = 40,
                          .values = {{"train/loss", 0.31234},
                                     {"train/apl/loss", 1.2149},
                                     {"train/apl/accuracy", 48.04},
                                     {"train/rpl/loss", 0.05},
                                     {"val/top1", 97.216},
                                     {"val/loss", 0.5},
                                     {"val_ema/top1", 98},
                                     {"grad_norm", 2.347},
                                     {"lr", 0.00104}},
                          .images_per_second = 9119.6,
                          .data_wait = 0.0249,
                          .seconds_left = 12.2};
  // All but the memory, which is the machine's.
  EXPECT_THAT(
      FormatProgress(progress),
      MatchesRegex("step 1,120/14,000 · epoch 3\\.4/40 · loss 0\\.3123 · apl 1\\.21 \\(48\\.0 %\\) · rpl 0\\.05 · "
                   "top-1 97\\.22 % · grad 2\\.35 · lr 1\\.0e-03 · 9,120 img/s · data 2 % · [0-9]+\\.[0-9] GB · "
                   "0:12 left"));
}

TEST(ProgressTest, WhatIsNotKnownYetIsLeftOut) {
  const Progress progress{
      .step = 1, .total_steps = 10, .epoch = 0.1, .epochs = 1, .values = {{"train/loss", 2}, {"lr", 1}}};
  const std::string line = FormatProgress(progress);
  EXPECT_THAT(line, HasSubstr("step 1/10 · epoch 0.1/1 · loss 2 · lr 1.0e+00 · 0 img/s · data 0 %"));
  EXPECT_THAT(line, Not(HasSubstr("top-1")));
  EXPECT_THAT(line, Not(HasSubstr("grad")));
}

TEST(ProgressTest, PeakMemoryIsInBytes) {
  const int64_t before = PeakMemory();
  const std::string touched(int64_t{64} << 20, 'x');
  const int64_t after = PeakMemory();
  EXPECT_EQ(touched.back(), 'x');
  // This process holds those 64 MB, and not a thousand times as much.
  EXPECT_GE(after, int64_t{64} << 20);
  EXPECT_LT(after, int64_t{16} << 30);
  EXPECT_GE(after, before);
}

}  // namespace
}  // namespace graticule
