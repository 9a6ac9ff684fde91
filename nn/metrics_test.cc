#include "nn/metrics.h"

#include "ATen/Context.h"
#include "ATen/ops/full.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

at::Tensor Value(double value, at::Device device = at::kCPU) {
  return at::full({}, value, at::TensorOptions(at::kFloat).device(device));
}

TEST(MetricsTest, MeansAreOfSumsAndCounts) {
  Metrics metrics;
  EXPECT_TRUE(metrics.empty());
  EXPECT_TRUE(metrics.Sums().empty());
  metrics.Add("loss", Value(6), 4);
  metrics.Add("top1", Value(100), 1);
  metrics.Add("loss", Value(1).requires_grad_(true), 3);
  EXPECT_THAT(metrics.Sums(), ElementsAre(Pair("loss", Pair(7, 7)), Pair("top1", Pair(100, 1))));
  EXPECT_THAT(metrics.Means(), ElementsAre(Pair("loss", 1), Pair("top1", 100)));
  Metrics all(metrics.Sums());
  all.Add("train/", metrics);
  all.Add("", metrics);
  EXPECT_THAT(all.Sums(), ElementsAre(Pair("loss", Pair(14, 14)), Pair("top1", Pair(200, 2)),
                                      Pair("train/loss", Pair(7, 7)), Pair("train/top1", Pair(100, 1))));
  metrics.Clear();
  EXPECT_TRUE(metrics.empty());
}

// Sums of many small numbers would stand still in float.
TEST(MetricsTest, SumsAreDoubles) {
  Metrics metrics;
  metrics.Add("a", Value(1 << 24), 1);
  for (int i = 0; i < 3; ++i) metrics.Add("a", Value(1), 1);
  EXPECT_EQ(metrics.Sums()["a"].first, (1 << 24) + 3);
}

// The norm of the gradients is the host's, the losses are the device's.
TEST(MetricsTest, SumsOfTheHostAndOfADeviceMayStandSideBySide) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "this build or machine has no CUDA";
  Metrics metrics;
  metrics.Add("a", Value(1, at::kCUDA), 1);
  metrics.Add("b", Value(2), 1);
  metrics.Add("c", Value(3, at::kCUDA), 1);
  EXPECT_THAT(metrics.Means(), ElementsAre(Pair("a", 1), Pair("b", 2), Pair("c", 3)));
}

}  // namespace
}  // namespace graticule
