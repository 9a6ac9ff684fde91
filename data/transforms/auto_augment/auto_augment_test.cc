#include "data/transforms/auto_augment/auto_augment.h"

#include <fstream>
#include <map>
#include <string>

#include "data/transforms/test_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

AutoAugment Config(const std::string& policy) {
  AutoAugment config;
  config.set_policy(policy);
  return config;
}

// By tools/parity/make_auto_augment_fixtures.py.
TEST(AutoAugmentTest, PoliciesAreTimms) {
  std::map<std::string, AutoAugmentPolicy> expected;
  std::ifstream table("data/transforms/testdata/auto_augment.tsv");
  std::string text, operation;
  size_t sequence;
  double deviation, probability, magnitude;
  while (table >> text >> sequence >> deviation >> operation >> probability >> magnitude) {
    AutoAugmentPolicy& policy = expected[text];
    policy.magnitude_deviation = deviation;
    policy.sequences.resize(sequence + 1);
    policy.sequences[sequence].push_back({operation, probability, magnitude});
  }
  ASSERT_EQ(expected.size(), 5);
  for (const auto& [name, policy] : expected) {
    FieldErrors errors;
    const AutoAugmentPolicy parsed = ParseAutoAugment(name, errors);
    EXPECT_TRUE(errors.empty()) << errors.ToStatus();
    EXPECT_EQ(parsed.sequences, policy.sequences) << name;
    EXPECT_EQ(parsed.magnitude_deviation, policy.magnitude_deviation) << name;
  }
}

TEST(AutoAugmentTest, DrawsOneOfItsSequences) {
  // 3a: solarize, grey or blur, each surely; a flat row of three colours tells which.
  const auto transform = *MakeTransform(Config("3a"));
  Image pixel{1, 1, {200, 100, 50}};
  const Image solarized{1, 1, {55, 100, 50}}, grey{1, 1, {124, 124, 124}};
  std::map<std::string, int> counts;
  for (uint64_t key = 0; key < 3000; ++key) {
    const Image image = Transformed(*transform, pixel, key);
    // A single pixel has nothing to be blurred with.
    ++counts[image == solarized ? "solarized" : image == grey ? "grey" : image == pixel ? "blurred" : "other"];
  }
  EXPECT_EQ(counts.size(), 3);
  for (const char* name : {"solarized", "grey", "blurred"}) EXPECT_NEAR(counts[name], 1000, 100) << name;
}

TEST(AutoAugmentTest, IsAFunctionOfTheDraws) {
  for (const char* policy : {"original-mstd0.5", "originalr", "v0", "v0r"}) {
    const auto transform = *MakeTransform(Config(policy));
    const Image picture = TestImage("center_32x32");
    int changed = 0;
    for (uint64_t key = 0; key < 100; ++key) {
      const Image image = Transformed(*transform, picture, key);
      EXPECT_EQ(image.size(), picture.size());
      EXPECT_EQ(image, Transformed(*transform, picture, key));
      changed += image != picture;
    }
    EXPECT_GT(changed, 60) << policy;
  }
}

TEST(AutoAugmentTest, DefaultsToThePapers) {
  const Image picture = TestImage("center_32x32");
  const auto a = *MakeTransform(AutoAugment()), b = *MakeTransform(Config("original"));
  for (uint64_t key = 0; key < 20; ++key) EXPECT_EQ(Transformed(*a, picture, key), Transformed(*b, picture, key));
}

TEST(AutoAugmentTest, RejectsBadStrings) {
  EXPECT_THAT(ConfigError(Config("orignal")),
              HasSubstr("policy: 'orignal' must begin with one of original, originalr, v0, v0r, 3a; did you mean "
                        "'original'?"));
  EXPECT_THAT(ConfigError(Config("original-m9")), HasSubstr("section 'm9' does not begin with one of mstd"));
  EXPECT_THAT(ConfigError(Config("v0-mstdx")), HasSubstr("section 'mstdx' does not begin with one of mstd"));
}

}  // namespace
}  // namespace graticule
