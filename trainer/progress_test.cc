#include "trainer/progress.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace graticule {
namespace {

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

Progress Everything() {
  return {.step = 1120,
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
                     {"loss_scale", 65536},
                     {"skipped_steps", 3},
                     {"lr", 0.00104}},
          .images_per_second = 9119.6,
          .data_wait = 0.0249,
          .memory = 1'440'000'000,
          .seconds_left = 12.2};
}

TEST(ProgressTest, ALineSaysEverythingThatIsKnown) {
  EXPECT_EQ(FormatProgress(Everything()),
            "step 1,120/14,000 · epoch 3.4/40 · loss 0.3123 · apl 1.21 (48.0 %) · rpl 0.05 · top-1 97.22 % · "
            "lr 1.0e-03 · grad 2.35 · scale 65,536 · 3 skipped · 9,120 img/s · data 2 % · 1.4 GB · 0:12 left");
}

TEST(ProgressTest, ANarrowTerminalGetsWhatIsNeededMost) {
  EXPECT_EQ(FormatProgress(Everything(), 500), FormatProgress(Everything()));
  EXPECT_EQ(
      FormatProgress(Everything(), 120),
      "step 1,120/14,000 · loss 0.3123 · apl 1.21 (48.0 %) · rpl 0.05 · top-1 97.22 % · 3 skipped · 9,120 img/s · "
      "0:12 left");
  EXPECT_EQ(FormatProgress(Everything(), 79),
            "step 1,120/14,000 · loss 0.3123 · apl 1.21 (48.0 %) · top-1 97.22 % · 0:12 left");
  EXPECT_EQ(FormatProgress(Everything(), 78), "step 1,120/14,000 · loss 0.3123 · top-1 97.22 % · 0:12 left");
  EXPECT_EQ(FormatProgress(Everything(), 20), "step 1,120/14,000");
  EXPECT_EQ(FormatProgress(Everything(), 5), "step 1,120/14,000");
}

TEST(ProgressTest, WhatIsNotKnownYetIsLeftOut) {
  const Progress progress{
      .step = 1, .total_steps = 10, .epoch = 0.1, .epochs = 1, .values = {{"lr", 1}, {"loss_scale", 0.25}}};
  EXPECT_EQ(FormatProgress(progress),
            "step 1/10 · epoch 0.1/1 · lr 1.0e+00 · scale 0.25 · 0 img/s · data 0 % · 0.0 GB · 0:00 left");
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
  EXPECT_GE(PeakMemory(c10::kCPU), after);
}

}  // namespace
}  // namespace graticule
