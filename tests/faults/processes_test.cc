// Two processes are one training: what they learn, and what one of them makes of the other's end.
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "tests/faults/runs.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ProcessesTest : public FaultTest {
 protected:
  // Greatest difference of a weight of the last checkpoints, where weights are of the order of 0.1.
  static double Difference(const std::string& a, const std::string& b, const std::string& file = "model") {
    const std::string path = "/checkpoints/last/" + file + ".safetensors";
    const auto x = ReadSafetensors(a + path), y = ReadSafetensors(b + path);
    EXPECT_TRUE(x.ok() && y.ok());
    double greatest = 0;
    for (const auto& [name, tensor] : x->tensors) {
      greatest = std::max(greatest, tensor.sub(y->Find(name)).abs().max().item<double>());
    }
    return greatest;
  }
  static void ExpectNearMetrics(const std::string& a, const std::string& b, double tolerance) {
    const auto x = ReadMetricsWithoutClock(a), y = ReadMetricsWithoutClock(b);
    ASSERT_EQ(x.size(), y.size());
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(x[i].size(), y[i].size());
      for (const auto& [name, value] : x[i]) {
        // A prediction between two classes may fall either way.
        const bool counts = name.find("top") != std::string::npos || name.find("accuracy") != std::string::npos;
        EXPECT_NEAR(y[i].at(name), value, counts ? 5 : tolerance * std::max(1.0, std::abs(value)))
            << name << " at step " << x[i].at("step");
      }
    }
  }
};

// Two processes sum up gradients in another order than one does, which in fp32 changes the last bits. Of a gradient
// that is next to nothing Adam still makes a step of the learning rate's length, 0.001, to whichever side.
constexpr double kTolerance = 1e-3;

// Nothing random in the model: the order of samples and their augmentation are the same for any number of processes.
TEST_F(ProcessesTest, LearnWhatOneDoesOfTheSameBatches) {
  for (const auto& [optimizer, tolerance] :
       std::map<std::string, double>{{"Sgd] { momentum: 0.9 }", 1e-6}, {"AdamW] {}", kTolerance}}) {
    SCOPED_TRACE(optimizer);
    const std::vector<std::string> one = {
        "--set", "trainer.max_steps=20",
        "--set", "backbone.drop_path_rate=0",
        "--set", "trainer.accumulation_steps=1",
        "--set", "data.batch_transforms=[]",
        "--set", "trainer.optimizer={ [type.googleapis.com/graticule." + optimizer + " }"};
    std::vector<std::string> two = one;
    two.push_back("--processes=2");
    const std::string name = optimizer.substr(0, 3);
    const std::string a = Train("one" + name, one), b = Train("two" + name, two);
    for (const char* file : {"model", "ema", "objectives"}) EXPECT_LT(Difference(a, b, file), tolerance) << file;
    ExpectNearMetrics(a, b, 1e-4);
  }
}

// What is drawn for a pass (drop path, mixup) is drawn for its place in the step, be it another process's or a later
// one.
TEST_F(ProcessesTest, AreToEachOtherAsStepsOfAccumulation) {
  const std::vector<std::string> one = {"--set", "trainer.max_steps=60"};
  const std::vector<std::string> two = {"--set", "trainer.max_steps=60", "--set", "trainer.accumulation_steps=1",
                                        "--processes=2"};
  const std::string a = Train("one", one), b = Train("two", two);
  EXPECT_LT(Difference(a, b), 3 * kTolerance);
  ExpectNearMetrics(a, b, 1e-3);
}

TEST_F(ProcessesTest, AnotherNumberOfThemGoesOnWithARun) {
  const std::vector<std::string> accumulating = {"--set", "trainer.max_steps=60", "--allow-changed-spec"};
  const std::string whole = Train("whole", accumulating);
  // Half of it by two, in the middle of an epoch, the rest by one.
  Train("run", {"--set", "trainer.max_steps=25", "--set", "trainer.accumulation_steps=1", "--processes=2"});
  const ProgramResult rest = RunProgram(TrainArguments("run", accumulating));
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, AllOf(HasSubstr("processes until here: 2, now: 1"), HasSubstr("resumed at step 25 of 60")));
  EXPECT_LT(Difference(whole, Run("run")), 3 * kTolerance);
}

// One that is told to stop in a validation does not wait for what the other has still to measure.
TEST_F(ProcessesTest, OneThatIsToldToStopInAValidationTakesTheOtherAlong) {
  const std::vector<std::string> more = {"--processes=2", "--set", "trainer.max_steps=4", "--set",
                                         "data.dataset.val_size=40000"};
  Program program(TrainArguments("stopped", more));
  ASSERT_TRUE(WaitUntil([&] { return NewestStep(Run("stopped")) == 3; }, 60)) << program.err();
  const pid_t rank = RankOf(program.pid(), 1);
  ASSERT_FALSE(WaitUntil([&] { return !program.running(); }, 0.5));
  ASSERT_EQ(kill(rank, SIGTERM), 0);
  ASSERT_TRUE(WaitUntil([&] { return !program.running(); }, 15)) << program.out();
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("stopped by SIGTERM at step 4 of 4"));
  EXPECT_EQ(NewestStep(Run("stopped")), 4);
}

TEST_F(ProcessesTest, ABatchThatTheyCannotShareIsAMistake) {
  const ProgramResult result = RunProgram(TrainArguments("run", {"--processes=3"}));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("trainer.batch_size"), HasSubstr("3 processes"), HasSubstr("16")));
}

TEST_F(ProcessesTest, MistakesOfTheSpecAreSaidOnce) {
  const ProgramResult result = RunProgram(TrainArguments("run", {"--processes=2", "--set", "backbone.dpeth=3"}));
  EXPECT_EQ(result.exit_code, 2);
  const size_t first = result.err.find("did you mean 'depth'");
  ASSERT_NE(first, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("did you mean 'depth'", first + 1), std::string::npos) << result.err;
}

TEST_F(ProcessesTest, OneThatIsLostIsNamedByTheOthers) {
  for (const int lost : {0, 1}) {
    Program program(TrainArguments("lost" + std::to_string(lost),
                                   {"--processes=2", "--set", "trainer.distributed.timeout_seconds=20"}));
    ASSERT_TRUE(WaitUntil([&] { return program.out().find("step 7/") != std::string::npos; }, 60)) << program.err();
    ASSERT_EQ(kill(RankOf(program.pid(), lost), SIGKILL), 0);
    ASSERT_TRUE(WaitUntil([&] { return !program.running(); }, 40)) << program.err();
    const ProgramResult result = program.Wait();
    EXPECT_NE(result.exit_code, 0);
    EXPECT_THAT(result.LastError(), AllOf(HasSubstr("rank " + std::to_string(lost)), HasSubstr("SIGKILL")));
    EXPECT_THAT(result.err, HasSubstr("rank " + std::to_string(lost) + " was lost"));
  }
}

TEST_F(ProcessesTest, OneThatIsLateIsNamedByTheOthers) {
  const ProgramOptions options{.binary = "graticule/tests/faults/graticule_with_faults"};
  const std::string fault =
      "objectives=objective { [type.googleapis.com/graticule_test.FaultObjective] { sleep_at_call: 12 sleep_seconds: "
      "60 "
      "rank: 1 } }";
  Program program(
      TrainArguments("late", {"--processes=2", "--set", fault, "--set", "trainer.distributed.timeout_seconds=3"}),
      options);
  ASSERT_TRUE(WaitUntil([&] { return !program.running(); }, 60)) << program.err();
  const ProgramResult result = program.Wait();
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, AllOf(HasSubstr("rank 1 has not come"), HasSubstr("3 s")));
}

TEST_F(ProcessesTest, AMistakeOfOneIsWhatAllEndWith) {
  const ProgramOptions options{.binary = "graticule/tests/faults/graticule_with_faults"};
  const std::string fault =
      "objectives=objective { [type.googleapis.com/graticule_test.FaultObjective] { nan_at_call: 11 rank: 1 } }";
  const ProgramResult result = RunProgram(TrainArguments("nan", {"--processes=2", "--set", fault}), options);
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, AllOf(HasSubstr("step 5 is not finite"), HasSubstr("rank 1: ")));
}

}  // namespace
}  // namespace graticule
