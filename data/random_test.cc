#include "data/random.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace graticule {
namespace {

// The statistic of counts that should be equal; its mean is the degrees of freedom, counts.size() - 1.
double ChiSquared(const std::vector<int64_t>& counts) {
  double total = 0, sum = 0;
  for (const int64_t count : counts) total += static_cast<double>(count);
  const double expected = total / static_cast<double>(counts.size());
  for (const int64_t count : counts) sum += std::pow(static_cast<double>(count) - expected, 2) / expected;
  return sum;
}

// Six standard deviations above the mean.
double ChiSquaredBound(size_t bins) {
  const double freedom = static_cast<double>(bins) - 1;
  return freedom + 6 * std::sqrt(2 * freedom);
}

TEST(HashKeyTest, OneWordIsSplitMix64) {
  // First output of Vigna's splitmix64.c for the seed 1234567; a key of one word starts from its length, 1.
  EXPECT_EQ(HashKey({1234567 ^ 1}), 6457827717110365317u);
}

TEST(HashKeyTest, OrderLengthAndEveryWordCount) {
  const std::set<uint64_t> hashes = {HashKey({}),     HashKey({0}),    HashKey({0, 0}), HashKey({1, 2}),
                                     HashKey({2, 1}), HashKey({1, 3}), HashKey({1}),    HashKey({1, 2, 0})};
  EXPECT_EQ(hashes.size(), 8u);
}

TEST(DrawsTest, AreAFunctionOfTheKey) {
  Draws a({1, 2, 3}), b({1, 2, 3}), c({1, 2, 4});
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a();
    EXPECT_EQ(x, b());
    EXPECT_NE(x, c());
  }
}

TEST(DrawsTest, UniformFillsTheUnitInterval) {
  Draws draws({7});
  std::vector<int64_t> bins(100);
  for (int i = 0; i < 100000; ++i) {
    const double x = draws.Uniform();
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    ++bins[static_cast<size_t>(100 * x)];
  }
  EXPECT_LT(ChiSquared(bins), ChiSquaredBound(bins.size()));
}

TEST(DrawsTest, FirstDrawsOfNeighbouringKeysAreUniformAndUncorrelated) {
  std::vector<int64_t> bins(100);
  double previous = 0.5, covariance = 0;
  constexpr int kKeys = 100000;
  for (uint64_t index = 0; index < kKeys; ++index) {
    Draws draws({42, 3, index});
    const double x = draws.Uniform();
    ++bins[static_cast<size_t>(100 * x)];
    covariance += (x - 0.5) * (previous - 0.5) / kKeys;
    previous = x;
  }
  EXPECT_LT(ChiSquared(bins), ChiSquaredBound(bins.size()));
  EXPECT_NEAR(covariance * 12, 0, 6 / std::sqrt(kKeys));
}

TEST(DrawsTest, BelowFillsItsRange) {
  Draws draws({8});
  std::vector<int64_t> bins(7);
  for (int i = 0; i < 70000; ++i) ++bins[draws.Below(7)];
  EXPECT_LT(ChiSquared(bins), ChiSquaredBound(bins.size()));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(draws.Below(1), 0);
}

TEST(DrawsTest, BernoulliKeepsItsProbability) {
  Draws draws({9});
  int64_t hits = 0;
  for (int i = 0; i < 100000; ++i) hits += draws.Bernoulli(0.3);
  EXPECT_NEAR(static_cast<double>(hits) / 100000, 0.3, 6 * std::sqrt(0.3 * 0.7 / 100000));
  EXPECT_FALSE(draws.Bernoulli(0));
  EXPECT_TRUE(draws.Bernoulli(1));
}

std::vector<int64_t> Values(const Permutation& permutation, int64_t size) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < size; ++i) values.push_back(permutation(i));
  return values;
}

TEST(DrawsTest, NormalsHaveTheMomentsAndTheTails) {
  Draws draws({5});
  constexpr int kDraws = 200000;
  double sum = 0, sum2 = 0, sum3 = 0, sum4 = 0;
  int beyond = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = draws.Normal();
    sum += x / kDraws;
    sum2 += x * x / kDraws;
    sum3 += x * x * x / kDraws;
    sum4 += x * x * x * x / kDraws;
    beyond += x > 1.959964;
  }
  // Five standard errors: sqrt of 1, 2, 15 and 96 over the draws.
  EXPECT_NEAR(sum, 0, 0.012);
  EXPECT_NEAR(sum2, 1, 0.016);
  EXPECT_NEAR(sum3, 0, 0.044);
  EXPECT_NEAR(sum4, 3, 0.11);
  EXPECT_NEAR(beyond / double{kDraws}, 0.025, 0.0018);
}

TEST(DrawsTest, BetasHaveTheMoments) {
  for (const auto& [alpha, beta] : {std::pair(0.2, 0.2), {0.8, 0.8}, {1.0, 1.0}, {2.5, 2.5}, {0.5, 3.0}}) {
    Draws draws({6});
    constexpr int kDraws = 40000;
    double moments[4] = {};
    for (int i = 0; i < kDraws; ++i) {
      const double x = draws.Beta(alpha, beta);
      ASSERT_GE(x, 0);
      ASSERT_LE(x, 1);
      for (int k = 0; k < 4; ++k) moments[k] += std::pow(x, k + 1) / kDraws;
    }
    // E x^k is the product of (alpha + i) / (alpha + beta + i), i < k; a variable in [0, 1] deviates by 0.5 at most.
    double expected = 1;
    for (int k = 0; k < 4; ++k) {
      expected *= (alpha + k) / (alpha + beta + k);
      EXPECT_NEAR(moments[k], expected, 5 * 0.5 / std::sqrt(kDraws)) << alpha << ", " << beta << ", power " << k + 1;
    }
  }
}

TEST(DrawsTest, BetaOfOneIsUniformAndOfLittleIsZeroOrOne) {
  Draws draws({7});
  std::vector<int64_t> bins(20);
  for (int i = 0; i < 20000; ++i) ++bins[std::min<int64_t>(19, static_cast<int64_t>(20 * draws.Beta(1, 1)))];
  EXPECT_LT(ChiSquared(bins), ChiSquaredBound(bins.size()));
  int ones = 0, between = 0;
  for (int i = 0; i < 2000; ++i) {
    const double x = draws.Beta(1e-3, 1e-3);
    ASSERT_TRUE(x >= 0 && x <= 1) << x;
    ones += x > 0.5;
    between += x > 1e-6 && x < 1 - 1e-6;
  }
  EXPECT_NEAR(ones / 2000.0, 0.5, 0.06);
  // The density is nearly 1e-3 / 2 / (x (1 - x)), its integral between the two 1e-3 log 1e6.
  EXPECT_NEAR(between / 2000.0, 0.0138, 0.013);
}

TEST(PermutationTest, IsABijectionOfEverySize) {
  std::vector<int64_t> sizes = {127, 128, 129, 1023, 1024, 1025, 1438, 4096, 4097, 100003};
  for (int64_t size = 0; size <= 70; ++size) sizes.push_back(size);
  for (const int64_t size : sizes) {
    std::vector<int64_t> values = Values(Permutation(size, {1, 2}), size);
    std::sort(values.begin(), values.end());
    for (int64_t i = 0; i < size; ++i) ASSERT_EQ(values[i], i) << "size " << size;
  }
}

TEST(PermutationTest, IsAFunctionOfTheKey) {
  EXPECT_EQ(Values(Permutation(1000, {5, 6}), 1000), Values(Permutation(1000, {5, 6}), 1000));
  EXPECT_NE(Values(Permutation(1000, {5, 6}), 1000), Values(Permutation(1000, {5, 7}), 1000));
}

TEST(PermutationTest, PutsEveryValueAtEveryPositionEquallyOften) {
  for (const int64_t size : {2, 3, 5, 10, 17, 33}) {
    std::vector<int64_t> bins(size * size);
    for (uint64_t key = 0; key < 20000; ++key) {
      const Permutation permutation(size, {key});
      for (int64_t i = 0; i < size; ++i) ++bins[i * size + permutation(i)];
    }
    EXPECT_LT(ChiSquared(bins), ChiSquaredBound(bins.size())) << "size " << size;
  }
}

TEST(PermutationTest, LeavesNoNeighboursTogether) {
  // Of a random permutation of n, about 2 neighbours are one apart.
  const int64_t size = 10000;
  const std::vector<int64_t> values = Values(Permutation(size, {3}), size);
  int64_t neighbours = 0;
  for (int64_t i = 1; i < size; ++i) neighbours += std::abs(values[i] - values[i - 1]) == 1;
  EXPECT_LT(neighbours, 15);
}

TEST(PermutationTest, ReachesPositionsOfHugeSizesAtOnce) {
  const int64_t size = (int64_t{1} << 40) + 7;
  const Permutation permutation(size, {4});
  std::set<int64_t> values;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t value = permutation(size - 1 - i);
    ASSERT_GE(value, 0);
    ASSERT_LT(value, size);
    values.insert(value);
  }
  EXPECT_EQ(values.size(), 1000u);
}

}  // namespace
}  // namespace graticule
