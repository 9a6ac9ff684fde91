#include "trainer/expectations.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(ExpectationsTest, BoundsHoldOrAreMissed) {
  Experiment experiment;
  const auto expect = [&](const char* metric) {
    Expected* expected = experiment.add_expected();
    expected->set_metric(metric);
    return expected;
  };
  expect("val/top1")->set_min(98);
  expect("val/top1")->set_max(98);
  expect("train/loss")->set_max(0.5);
  expect("gone")->set_min(0);
  Expected* both = expect("val/top1");
  both->set_min(98);
  both->set_max(99);

  const auto found = CheckExpectations(experiment, {{"val/top1", 98.25}, {"train/loss", 0.5}});
  ASSERT_EQ(found.size(), 5);
  EXPECT_EQ(found[0].line, "expected val/top1 ≥ 98: 98.25, holds");
  EXPECT_EQ(found[1].line, "expected val/top1 ≤ 98: 98.25, missed");
  EXPECT_EQ(found[2].line, "expected train/loss ≤ 0.5: 0.5, holds");
  EXPECT_EQ(found[3].line, "expected gone ≥ 0: there is no such metric");
  EXPECT_EQ(found[4].line, "expected val/top1 ≥ 98 ≤ 99: 98.25, holds");
  EXPECT_TRUE(found[0].holds && !found[1].holds && found[2].holds && !found[3].holds && found[4].holds);
  EXPECT_TRUE(CheckExpectations(Experiment(), {}).empty());
}

TEST(ExpectationsTest, MetricsThatThereAreNotAreNamed) {
  Experiment experiment;
  for (const char* metric : {"val/top1", "val/top11", "gone"}) experiment.add_expected()->set_metric(metric);
  experiment.mutable_expected(1)->set_min(98);
  experiment.mutable_expected(2)->set_max(1);
  EXPECT_THAT(UnknownMetrics(experiment, {{"val/top1", 0}, {"val/top5", 0}}),
              testing::ElementsAre("expected val/top11 ≥ 98: there is no such metric; did you mean 'val/top1'?",
                                   "expected gone ≤ 1: there is no such metric"));
}

}  // namespace
}  // namespace graticule
