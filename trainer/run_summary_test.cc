#include "trainer/run_summary.h"

#include <csignal>
#include <cstdlib>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "plugin/file.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

nlohmann::json Written(const RunSummary& summary) {
  EXPECT_TRUE(WriteRunSummary(summary, testing::TempDir()).ok());
  const auto text = ReadFile(testing::TempDir() + "/run.json");
  EXPECT_TRUE(text.ok()) << text.status();
  return nlohmann::json::parse(*text);
}

TEST(RunSummaryTest, ReasonsSayHowARunEnded) {
  EXPECT_EQ(ExitReason(absl::OkStatus(), 0), "completed");
  EXPECT_EQ(ExitReason(absl::OkStatus(), SIGTERM), "stopped by SIGTERM");
  EXPECT_EQ(ExitReason(absl::UnavailableError("the disk is full"), 0), "error: the disk is full");
  EXPECT_EQ(ExitReason(absl::UnavailableError("the disk is full"), SIGTERM), "error: the disk is full");
}

TEST(RunSummaryTest, HoldsWhatIsKnown) {
  setenv("GRATICULE_REVISION", "4f50b75-dirty", /*overwrite=*/1);
  const nlohmann::json json = Written({.name = "quickstart",
                                       .exit_reason = "completed",
                                       .step = 1400,
                                       .total_steps = 1400,
                                       .resumed_at = 700,
                                       .epoch = 40,
                                       .images_seen = 89600,
                                       .skipped_steps = 2,
                                       .best = RunSummary::Best{"val/top1", 97.25, 1300},
                                       .last = {{"train/loss", 0.5}, {"val/top1", 97}},
                                       .start_time = 1e9,
                                       .end_time = 1e9 + 12.5,
                                       .run_seconds = 30.25,
                                       .device = "cpu",
                                       .threads = 2,
                                       .world_size = 4,
                                       .peak_memory = 123456789});
  EXPECT_EQ(json.at("name"), "quickstart");
  EXPECT_EQ(json.at("exit_reason"), "completed");
  EXPECT_EQ(json.at("step"), 1400);
  EXPECT_EQ(json.at("total_steps"), 1400);
  EXPECT_EQ(json.at("resumed_at"), 700);
  EXPECT_EQ(json.at("epoch"), 40);
  EXPECT_EQ(json.at("images_seen"), 89600);
  EXPECT_EQ(json.at("skipped_steps"), 2);
  EXPECT_EQ(json.at("best"), nlohmann::json::parse(R"({"metric": "val/top1", "value": 97.25, "step": 1300})"));
  EXPECT_EQ(json.at("last"), nlohmann::json::parse(R"({"train/loss": 0.5, "val/top1": 97})"));
  EXPECT_EQ(json.at("start_time"), "2001-09-09T01:46:40Z");
  EXPECT_EQ(json.at("end_time"), "2001-09-09T01:46:52Z");
  EXPECT_EQ(json.at("seconds"), 12.5);
  EXPECT_EQ(json.at("run_seconds"), 30.25);
  EXPECT_EQ(json.at("git_revision"), "4f50b75-dirty");
  EXPECT_EQ(json.at("torch_version").get<std::string>().substr(0, 4), "2.11");
  EXPECT_NE(json.at("graticule_version"), "");
  EXPECT_NE(json.at("host"), "");
  EXPECT_EQ(json.at("device"), "cpu");
  EXPECT_EQ(json.at("threads"), 2);
  EXPECT_EQ(json.at("world_size"), 4);
  EXPECT_EQ(json.at("peak_memory"), 123456789);
}

TEST(RunSummaryTest, WhatIsNotKnownIsLeftOut) {
  unsetenv("GRATICULE_REVISION");
  const nlohmann::json json = Written({.exit_reason = "error: no data"});
  EXPECT_FALSE(json.contains("best"));
  EXPECT_FALSE(json.contains("git_revision"));
  EXPECT_EQ(json.at("last"), nlohmann::json::object());
}

TEST(RunSummaryTest, OddValuesStillMakeJson) {
  const nlohmann::json json = Written({.exit_reason = "error: bad \"name\" \xFF\n",
                                       .last = {{"train/loss", std::numeric_limits<double>::quiet_NaN()},
                                                {"grad_norm", std::numeric_limits<double>::infinity()}}});
  EXPECT_EQ(json.at("exit_reason"), "error: bad \"name\" \xEF\xBF\xBD\n");
  EXPECT_TRUE(json.at("last").at("train/loss").is_null());
  EXPECT_TRUE(json.at("last").at("grad_norm").is_null());
}

TEST(RunSummaryTest, AFolderThatIsNotThereIsAnError) {
  EXPECT_THAT(std::string(WriteRunSummary({}, testing::TempDir() + "/none").message()), HasSubstr("none/run.json"));
}

}  // namespace
}  // namespace graticule
