#include "trainer/profile.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/mm.h"
#include "ATen/ops/randn.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "plugin/file.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

struct Event {
  double begin = 0, end = 0;  // in µs
  nlohmann::json arguments;
};

// The complete events of a trace, by category and name, in order.
std::map<std::pair<std::string, std::string>, std::vector<Event>> ReadTrace(const std::string& path) {
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << text.status();
  const nlohmann::json trace = nlohmann::json::parse(*text);
  EXPECT_FALSE(trace.contains("ERROR"));
  std::map<std::pair<std::string, std::string>, std::vector<Event>> events;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const double begin = event.at("ts");
    events[{event.value("cat", ""), event.at("name")}].push_back(
        {begin, begin + event.at("dur").get<double>(), event.value("args", nlohmann::json())});
  }
  return events;
}

bool Holds(const Event& outer, const Event& inner) { return outer.begin <= inner.begin && inner.end <= outer.end; }

// A step. Returns what EndStep does.
std::optional<std::string> Train(StepProfiler& profiler, int64_t step) {
  EXPECT_TRUE(profiler.BeginStep(step).ok());
  const at::Tensor weight = at::randn({64, 64}).requires_grad_(true), input = at::randn({32, 64});
  at::Tensor loss;
  {
    const ProfiledRange range("forward");
    loss = at::mm(input, weight).sum();
  }
  {
    const ProfiledRange range("backward");
    loss.backward();
  }
  const auto written = profiler.EndStep(step);
  EXPECT_TRUE(written.ok()) << written.status();
  return *written;
}

class ProfileTest : public testing::Test {
 protected:
  ProfileTest() : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) names.push_back(entry.path().filename());
    return names;
  }

  std::string folder_;
};

TEST_F(ProfileTest, TracesTheStepsWithRangesAndOperators) {
  StepProfiler profiler({3, 4}, folder_, /*rank=*/0, c10::kCPU);
  for (int64_t step = 0; step <= 6; ++step) {
    const auto written = Train(profiler, step);
    EXPECT_EQ(written.has_value(), step == 4) << step;
    EXPECT_THAT(Files(), SizeIs(step < 4 ? 0 : 1)) << step;
    if (written) EXPECT_EQ(*written, folder_ + "/trace-rank0-steps-3-4.json");
  }
  EXPECT_THAT(Files(), ElementsAre("trace-rank0-steps-3-4.json"));
  const auto events = ReadTrace(folder_ + "/trace-rank0-steps-3-4.json");
  EXPECT_FALSE(events.contains({"user_annotation", "step 2"}));
  EXPECT_FALSE(events.contains({"user_annotation", "step 5"}));
  const auto& forwards = events.at({"user_annotation", "forward"});
  const auto& backwards = events.at({"user_annotation", "backward"});
  const auto& products = events.at({"cpu_op", "aten::mm"});
  ASSERT_THAT(forwards, SizeIs(2));
  ASSERT_THAT(backwards, SizeIs(2));
  ASSERT_THAT(products, SizeIs(4));  // forward, and the weight's gradient
  for (int i = 0; i < 2; ++i) {
    const auto& step = events.at({"user_annotation", i == 0 ? "step 3" : "step 4"});
    ASSERT_THAT(step, SizeIs(1));
    EXPECT_TRUE(Holds(step[0], forwards[i]));
    EXPECT_TRUE(Holds(step[0], backwards[i]));
    EXPECT_LE(forwards[i].end, backwards[i].begin);
    EXPECT_TRUE(Holds(forwards[i], products[2 * i]));
    EXPECT_TRUE(Holds(backwards[i], products[2 * i + 1]));
  }
  EXPECT_EQ(products[0].arguments.at("Input Dims"), nlohmann::json::parse("[[32, 64], [64, 64]]"));
}

TEST_F(ProfileTest, ARunThatResumesOrEndsWithinTheRangeHasTheRest) {
  const std::string path = folder_ + "/trace-rank1-steps-4-5.json";
  {
    StepProfiler profiler({2, 10}, folder_, /*rank=*/1, c10::kCPU);
    Train(profiler, 4);
    Train(profiler, 5);
    EXPECT_THAT(Files(), IsEmpty());
    EXPECT_EQ(*profiler.Finish(), path);
    EXPECT_EQ(*profiler.Finish(), std::nullopt);
    EXPECT_EQ(profiler.Missed(), "");
  }
  EXPECT_THAT(Files(), ElementsAre("trace-rank1-steps-4-5.json"));
  auto events = ReadTrace(path);
  EXPECT_THAT(events.at({"cpu_op", "aten::mm"}), SizeIs(4));
  {
    StepProfiler profiler({2, 10}, folder_, /*rank=*/1, c10::kCPU);
    Train(profiler, 9);
    // As when an error ends the step.
    ASSERT_TRUE(profiler.BeginStep(10).ok());
  }
  EXPECT_THAT(Files(), UnorderedElementsAre("trace-rank1-steps-4-5.json", "trace-rank1-steps-9-10.json"));
  events = ReadTrace(folder_ + "/trace-rank1-steps-9-10.json");
  EXPECT_THAT(events.at({"cpu_op", "aten::mm"}), SizeIs(2));
  EXPECT_TRUE(events.contains({"user_annotation", "step 10"}));
}

TEST_F(ProfileTest, StepsOutsideLeaveNoFileButAWord) {
  StepProfiler profiler({2, 3}, folder_, /*rank=*/0, c10::kCPU);
  Train(profiler, 1);
  Train(profiler, 4);
  EXPECT_EQ(*profiler.Finish(), std::nullopt);
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_EQ(profiler.Missed(), "--profile=2:3: this run has trained none of these steps, so there is no trace of them");
}

TEST_F(ProfileTest, AFileThatCannotBeWrittenIsAnError) {
  StepProfiler profiler({1, 1}, folder_ + "/none", /*rank=*/0, c10::kCPU);
  ASSERT_TRUE(profiler.BeginStep(1).ok());
  EXPECT_THAT(std::string(profiler.EndStep(1).status().message()), HasSubstr("none/trace-rank0-steps-1-1.json"));
  EXPECT_TRUE(profiler.Finish().ok());
}

TEST_F(ProfileTest, RangesCostNothingWhereNothingIsProfiled) {
  double best = std::numeric_limits<double>::infinity();
  for (int trial = 0; trial < 20; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 1000; ++i) const ProfiledRange range("forward");
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    best = std::min(best, time.count() / 1000);
  }
  EXPECT_LT(best, 1000) << "ns a range";
}

TEST_F(ProfileTest, RangesOfStepsAreParsed) {
  const auto steps = ParseProfiledSteps("10:12");
  ASSERT_TRUE(steps.ok()) << steps.status();
  EXPECT_EQ(steps->first, 10);
  EXPECT_EQ(steps->last, 12);
  EXPECT_TRUE(ParseProfiledSteps("0:0").ok());
  EXPECT_TRUE(ParseProfiledSteps("0:999").ok());
  const auto message = [](const char* text) { return std::string(ParseProfiledSteps(text).status().message()); };
  for (const char* text : {"", "5", "5:", ":5", "5:6:7", "5-7", "a:b", "1.5:2", "1:99999999999999999999"}) {
    EXPECT_THAT(message(text), HasSubstr(std::string("FIRST:LAST, for example 10:12; found '") + text + "'"));
  }
  EXPECT_THAT(message("-1:3"), HasSubstr("count from 0"));
  EXPECT_THAT(message("7:3"), HasSubstr("must not be before the first; found '7:3'"));
  EXPECT_THAT(message("0:1000"), HasSubstr("at most 1000 steps"));
  EXPECT_THAT(message("0:9223372036854775807"), HasSubstr("at most 1000 steps"));
}

}  // namespace
}  // namespace graticule
