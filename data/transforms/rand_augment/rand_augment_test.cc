#include "data/transforms/rand_augment/rand_augment.h"

#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

RandAugmentPolicy Parsed(const std::string& policy) {
  FieldErrors errors;
  const RandAugmentPolicy parsed = ParseRandAugment(policy, errors);
  EXPECT_TRUE(errors.empty()) << errors.ToStatus();
  return parsed;
}

RandAugment Config(const std::string& policy) {
  RandAugment config;
  config.set_policy(policy);
  return config;
}

// By tools/parity/make_auto_augment_fixtures.py.
TEST(RandAugmentTest, ReadsStringsAsTimmDoes) {
  std::ifstream table("data/transforms/testdata/rand_augment.tsv");
  std::map<std::string, size_t> counts;
  std::string text, deviation, operation;
  int per_image;
  double most, probability, magnitude, weight;
  while (table >> text >> per_image >> deviation >> most >> operation >> probability >> magnitude >> weight) {
    SCOPED_TRACE(text + ", " + operation);
    const RandAugmentPolicy policy = Parsed(text);
    const size_t i = counts[text]++;
    ASSERT_LT(i, policy.operations.size());
    EXPECT_EQ(policy.operations[i], operation);
    EXPECT_EQ(policy.operations_per_image, per_image);
    EXPECT_EQ(policy.magnitude_deviation, std::stod(deviation));
    EXPECT_EQ(policy.max_magnitude, most);
    EXPECT_EQ(policy.probability, probability);
    EXPECT_EQ(policy.magnitude, magnitude);
    ASSERT_EQ(policy.weights.empty(), weight == 0);
    if (weight > 0) {
      EXPECT_NEAR(policy.weights[i] / std::accumulate(policy.weights.begin(), policy.weights.end(), 0.0), weight, 1e-9);
    }
  }
  EXPECT_EQ(counts.size(), 7);
  for (const auto& [name, count] : counts) EXPECT_EQ(Parsed(name).operations.size(), count) << name;
}

TEST(RandAugmentTest, DrawsOperationsAlike) {
  const RandAugmentPolicy policy = Parsed("rand-n3");
  std::vector<int> counts(policy.operations.size());
  bool twice = false;
  Draws draws({5});
  for (int i = 0; i < 10000; ++i) {
    const std::vector<int> drawn = DrawOperations(policy, draws);
    ASSERT_EQ(drawn.size(), 3);
    for (const int index : drawn) ++counts.at(index);
    twice |= drawn[0] == drawn[1];
  }
  for (const int count : counts) EXPECT_NEAR(count, 2000, 200);
  EXPECT_TRUE(twice);
}

TEST(RandAugmentTest, DrawsByWeightWithoutReplacement) {
  const RandAugmentPolicy policy = Parsed("rand-t3aw");
  std::vector<int> firsts(policy.operations.size());
  Draws draws({5});
  constexpr int kDraws = 10000;
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<int> drawn = DrawOperations(policy, draws);
    ++firsts.at(drawn[0]);
    ASSERT_NE(drawn[0], drawn[1]);
  }
  const double total = std::accumulate(policy.weights.begin(), policy.weights.end(), 0.0);
  for (size_t i = 0; i < firsts.size(); ++i) {
    EXPECT_NEAR(firsts[i], kDraws * policy.weights[i] / total, 150) << policy.operations[i];
  }
  // All of them, once each.
  const std::vector<int> all = DrawOperations(Parsed("rand-t3aw-n14"), draws);
  EXPECT_EQ(std::set<int>(all.begin(), all.end()).size(), 14);
}

TEST(RandAugmentTest, EveryImageGetsItsOwn) {
  const auto transform = *MakeTransform(Config("rand-m9-mstd0.5-inc1-p1"));
  const Image picture = TestImage("center_32x32");
  int same = 0;
  for (uint64_t key = 0; key < 50; ++key) {
    const Image image = Transformed(*transform, picture, key);
    EXPECT_EQ(image.size(), picture.size());
    EXPECT_EQ(image, Transformed(*transform, picture, key));
    same += image == Transformed(*transform, picture, key + 1);
  }
  EXPECT_LT(same, 5);
}

TEST(RandAugmentTest, AppliesEachOperationHalfOfTheTime) {
  const auto transform = *MakeTransform(Config("rand-inc1"));
  const Image picture = TestImage("center_32x32");
  int untouched = 0;
  for (uint64_t key = 0; key < 1000; ++key) untouched += Transformed(*transform, picture, key) == picture;
  EXPECT_NEAR(untouched, 250, 60);
}

TEST(RandAugmentTest, FillsWithTheMeanColour) {
  const TransformContext context{{32, 32}, {.mean = {0.1f, 0.2f, 0.4f}}};
  const auto transform = *Registry<Transform>::Create(Config("rand-m10-n1-p1"), context);
  int filled = 0;
  for (uint64_t key = 0; key < 200; ++key) {
    Image image{20, 20, Pixels(1200, 200)};
    Draws draws({key});
    transform->Apply(image, draws);
    const auto is_fill = [&](size_t i) {
      return image.pixels[i] == 26 && image.pixels[i + 1] == 51 && image.pixels[i + 2] == 102;
    };
    filled += is_fill(0) || is_fill(1197);
  }
  // Of 15 operations, rotation and both translations always bare one of these corners, both shears half of the time.
  EXPECT_NEAR(filled, 200 * 4 / 15.0, 25);
}

TEST(RandAugmentTest, DefaultsToDeits) {
  const Image picture = TestImage("center_32x32");
  const auto a = *MakeTransform(RandAugment()), b = *MakeTransform(Config("rand-m9-mstd0.5-inc1"));
  for (uint64_t key = 0; key < 20; ++key) EXPECT_EQ(Transformed(*a, picture, key), Transformed(*b, picture, key));
}

TEST(RandAugmentTest, RejectsBadStrings) {
  const std::map<std::string, std::string> errors = {
      {"random-m9", "policy: 'random-m9' must begin with 'rand'"},
      {"rand-w0", "section 'w0' does not begin with one of m, n, p, mstd, mmax, inc, t"},
      {"rand-mx9", "section 'mx9' does not begin with one of"},
      {"rand-inc", "needs 1 after inc, found ''"},
      {"rand-inc0", "needs 1 after inc, found '0'"},
      {"rand-n0", "needs a whole number from 1 to 100 after n, found '0'"},
      {"rand-n15-t3aw", "needs a whole number from 1 to 14 after n, found '15'"},
      {"rand-p2", "needs a number from 0 to 1 after p, found '2'"},
      {"rand-m101", "needs a number from 0 to 100 after m, found '101'"},
      {"rand-mmax0", "needs a number from 1 to 100 after mmax, found '0'"},
      {"rand-t3b", "needs one of weights, 3a, 3aw after t, found '3b'; did you mean '3a'?"},
  };
  for (const auto& [policy, message] : errors) EXPECT_THAT(ConfigError(Config(policy)), HasSubstr(message)) << policy;
}

}  // namespace
}  // namespace graticule
