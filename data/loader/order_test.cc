#include "data/loader/order.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> All(const ShuffledOrder& order, int64_t samples) {
  std::vector<int64_t> all(samples);
  for (int64_t place = 0; place < samples; ++place) all[place] = order(place);
  return all;
}

std::vector<int64_t> Sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

std::vector<int64_t> Iota(int64_t n) {
  std::vector<int64_t> values(n);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

// Some empty, some larger and some smaller than the buffers below.
const std::vector<int64_t> kRuns = {40, 0, 7, 100, 1, 52, 0};

TEST(ShuffledOrderTest, IsAPermutation) {
  for (const std::vector<int64_t>& runs : {std::vector<int64_t>(), kRuns}) {
    for (const int64_t buffer : {1, 3, 64, 200, 10000}) {
      EXPECT_EQ(Sorted(All({200, runs, buffer, 5, 2}, 200)), Iota(200)) << runs.size() << " " << buffer;
    }
  }
  EXPECT_THAT(All({1, {1}, 10, 0, 0}, 1), ElementsAre(0));
}

TEST(ShuffledOrderTest, IsAFunctionOfSeedAndEpoch) {
  for (const std::vector<int64_t>& runs : {std::vector<int64_t>(), kRuns}) {
    const std::vector<int64_t> order = All({200, runs, 64, 5, 2}, 200);
    EXPECT_EQ(All({200, runs, 64, 5, 2}, 200), order);
    EXPECT_NE(All({200, runs, 64, 5, 3}, 200), order);
    EXPECT_NE(All({200, runs, 64, 6, 2}, 200), order);
  }
}

TEST(ShuffledOrderTest, ABufferOfOneReadsRunAfterRun) {
  std::set<int64_t> first;
  for (int64_t epoch = 0; epoch < 60; ++epoch) {
    const std::vector<int64_t> order = All({200, kRuns, 1, 5, epoch}, 200);
    first.insert(order[0]);
    // Only where a run ends does the next sample not follow.
    int64_t ends = 0;
    for (size_t i = 1; i < order.size(); ++i) ends += order[i] != order[i - 1] + 1;
    EXPECT_LE(ends, 4);
  }
  EXPECT_THAT(first, ElementsAre(0, 40, 47, 147, 148));  // each run comes first in some epoch
}

TEST(ShuffledOrderTest, NeighboursAreShuffledWithinTheBuffer) {
  const std::vector<int64_t> in_runs = All({200, kRuns, 1, 5, 2}, 200), shuffled = All({200, kRuns, 64, 5, 2}, 200);
  for (int64_t first = 0; first < 200; first += 64) {
    const auto part = [first](const std::vector<int64_t>& order) {
      return std::vector<int64_t>(order.begin() + first, order.begin() + std::min<int64_t>(first + 64, 200));
    };
    EXPECT_EQ(Sorted(part(shuffled)), Sorted(part(in_runs)));
    EXPECT_NE(part(shuffled), part(in_runs));
  }
}

// Every sample comes to every place equally often: 600 epochs of 20 samples give 30 each, with a deviation of 5.3.
TEST(ShuffledOrderTest, ABufferOfAllShufflesAll) {
  std::vector<std::vector<int>> counts(20, std::vector<int>(20, 0));
  for (int64_t epoch = 0; epoch < 600; ++epoch) {
    const ShuffledOrder order(20, {5, 5, 10}, 20, 1, epoch);
    for (int64_t place = 0; place < 20; ++place) ++counts[place][order(place)];
  }
  double chi2 = 0;
  for (const std::vector<int>& row : counts) {
    for (const int count : row) chi2 += (count - 30) * (count - 30) / 30.0;
  }
  // 361 degrees of freedom: mean 361, deviation 27.
  EXPECT_NEAR(chi2, 361, 5 * 27);
}

}  // namespace
}  // namespace graticule
