// A training that is killed again and again ends as one that never was.
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faults/runs.h"
#include "trainer/stop_signal.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class KillTest : public FaultTest {
 protected:
  bool HasHalfMadeFolder(const std::string& run) const {
    std::error_code error;
    for (fs::directory_iterator entry(Run(run) + "/checkpoints", error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->path().extension() == ".tmp" && entry->is_directory(error)) return true;
    }
    return false;
  }

  // Kills the training, once it has got further, after a while of chance: in a step or a validation. Every third time
  // in the middle of a save. Then it may end.
  void KillAndGoOn(const std::string& run, int times, const std::vector<std::string>& more) {
    std::mt19937 random(static_cast<unsigned>(times));
    int kills = 0, in_mid_save = 0;
    while (kills < times) {
      const int64_t before = NewestStep(Run(run)).value_or(-1);
      Program program(TrainArguments(run, more));
      ASSERT_TRUE(WaitUntil([&] { return !program.running() || NewestStep(Run(run)).value_or(-1) > before; }, 60))
          << program.out() << program.err();
      if (kills % 3 == 2) {
        ASSERT_TRUE(WaitUntil([&] { return !program.running() || HasHalfMadeFolder(run); }, 60));
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
      }
      if (!program.running()) break;
      program.Signal(SIGKILL);
      EXPECT_EQ(program.Wait().exit_code, 128 + SIGKILL);
      ++kills;
      in_mid_save += HasHalfMadeFolder(run);
    }
    EXPECT_EQ(kills, times);
    EXPECT_GT(in_mid_save, 0);
    const ProgramResult last = RunProgram(TrainArguments(run, more));
    ASSERT_EQ(last.exit_code, 0) << last.err;
    EXPECT_THAT(last.out, HasSubstr("resumed at step"));
  }
};

TEST_F(KillTest, AKilledTrainingEndsAsOneThatNeverStopped) {
  const std::string whole = Train("whole");
  KillAndGoOn("killed", 20, {});
  ExpectSameEnd(whole, Run("killed"));
}

TEST_F(KillTest, SoDoTwoProcesses) {
  const std::vector<std::string> two = {"--processes=2"};
  const std::string whole = Train("whole", two);
  KillAndGoOn("killed", 20, two);
  ExpectSameEnd(whole, Run("killed"));
}

TEST_F(KillTest, AskedToStopItFinishesItsStepAndSaves) {
  const std::string whole = Train("whole");
  for (const int signal : {SIGTERM, SIGUSR1, SIGHUP}) {
    Program program(
        TrainArguments("stopped", {"--set", "trainer.checkpoint_steps=0", "--set", "trainer.checkpoint_interval=100"}));
    ASSERT_TRUE(WaitUntil(
        [&] {
          return program.out().find("step 7/") != std::string::npos ||
                 program.out().find("resumed at") != std::string::npos;
        },
        60));
    program.Signal(signal);
    const ProgramResult result = program.Wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out,
                AllOf(HasSubstr("stopped by " + SignalName(signal)), HasSubstr("the same command goes on")));
    EXPECT_THAT(ReadText(Run("stopped") + "/run.json"), HasSubstr("stopped by"));
  }
  const ProgramResult rest = RunProgram(TrainArguments("stopped"));
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  ExpectSameEnd(whole, Run("stopped"));
}

TEST_F(KillTest, ProcessesAgreeOnTheStepAtWhichTheyStop) {
  const std::vector<std::string> two = {"--processes=2"};
  const std::string whole = Train("whole", two);
  Program program(TrainArguments("stopped", two));
  ASSERT_TRUE(WaitUntil([&] { return program.out().find("step 7/") != std::string::npos; }, 60));
  // One of the two alone is told.
  ASSERT_EQ(kill(RankOf(program.pid(), 1), SIGTERM), 0);
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("stopped by SIGTERM"));
  Train("stopped", two);
  ExpectSameEnd(whole, Run("stopped"));
}

TEST_F(KillTest, ASignalToAWholeGroupOfProcessesCountsOnce) {
  Program program(TrainArguments("stopped", {"--processes=2"}));
  ASSERT_TRUE(WaitUntil([&] { return program.out().find("step 7/") != std::string::npos; }, 60));
  for (const int rank : {0, 1}) ASSERT_EQ(kill(RankOf(program.pid(), rank), SIGTERM), 0);
  program.Signal(SIGTERM);  // and the launcher passes it on
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("stopped by SIGTERM"));
}

TEST_F(KillTest, WhoeverReadsTheOutputMayLeave) {
  std::string command = "exec '" + Runfile("graticule/app/graticule") + "'";
  for (const std::string& argument : TrainArguments("unread")) command += " '" + argument + "'";
  FILE* const out = popen(command.c_str(), "r");
  ASSERT_NE(out, nullptr);
  ASSERT_NE(std::fgetc(out), EOF);
  EXPECT_EQ(pclose(out), 0);  // it closes the pipe, then waits
  ExpectSameEnd(Train("read"), Run("unread"));
}

}  // namespace
}  // namespace graticule
