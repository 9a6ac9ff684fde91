#include "data/color.h"

#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(MeanColorTest, IsTheRoundedMean) {
  EXPECT_EQ(MeanColor({}), (Color{124, 116, 104}));
  EXPECT_EQ(MeanColor({.mean = {0.5f, 0, 1}}), (Color{128, 0, 255}));
}

}  // namespace
}  // namespace graticule
