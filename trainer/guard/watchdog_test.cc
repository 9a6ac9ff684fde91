#include "trainer/guard/watchdog.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {

// Neither inlined nor in an anonymous namespace, so that they are found by these names.
[[gnu::noinline]] void WaitForABatchThatNeverComes(absl::Notification& batch) {
  batch.WaitForNotification();
  asm volatile("");  // no tail call
}

[[gnu::noinline]] void ReadFromADiskThatIsGone(int file) {
  char byte;
  EXPECT_EQ(read(file, &byte, 1), 0);
}

[[gnu::noinline]] void ComputeWithoutEnd() {
  volatile bool go_on = true;
  while (go_on) {
  }
}

namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

constexpr double kMinute = 60;
constexpr char kPlace[] = "runs/tiny/log.txt";

class WatchdogTest : public testing::Test {
 protected:
  // Death tests then run in a process of their own from the start, where threads are allowed.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

[[noreturn]] void Stall() {
  Watchdog watchdog(0.3 / kMinute, kPlace,
                    [](const std::string& text) { absl::FPrintF(stderr, "reported %d bytes\n", text.size()); });
  std::thread([] { ComputeWithoutEnd(); }).detach();
  absl::Notification batch;
  WaitForABatchThatNeverComes(batch);
  _exit(0);
}

TEST_F(WatchdogTest, EndsAStalledProcessWithTheStacksOfItsThreads) {
  EXPECT_EXIT(Stall(), ExitedWithCode(1),
              AllOf(HasSubstr("no progress for 0.3 seconds (no step, validation batch or checkpoint)"),
                    ContainsRegex("thread [0-9]+ \\([^)]+, main\\):\n"),
                    HasSubstr("graticule::WaitForABatchThatNeverComes()"), HasSubstr("graticule::ComputeWithoutEnd()"),
                    HasSubstr("\n    main\n"), ContainsRegex("reported [1-9][0-9]+ bytes\n"),
                    HasSubstr("\ngraticule: no progress for 0.3 seconds; the stacks of all threads are in " +
                              std::string(kPlace) + "\n")));
}

TEST_F(WatchdogTest, BeatsKeepItQuiet) {
  Watchdog watchdog(0.5 / kMinute, kPlace, [](const std::string&) { FAIL(); });
  for (int i = 0; i < 75; ++i) {
    absl::SleepFor(absl::Milliseconds(20));
    watchdog.Beat();
  }
}

TEST_F(WatchdogTest, DestructionDoesNotWait) {
  const absl::Time start = absl::Now();
  for (int i = 0; i < 20; ++i) Watchdog(60, kPlace, [](const std::string&) { FAIL(); });
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

// Time in which nothing can run is no stall.
TEST_F(WatchdogTest, AProcessThatWasStoppedGoesOn) {
  const pid_t child = fork();
  if (child == 0) {
    Watchdog watchdog(0.5 / kMinute, kPlace, [](const std::string&) {});
    for (int i = 0; i < 100; ++i) {
      absl::SleepFor(absl::Milliseconds(20));
      watchdog.Beat();
    }
    _exit(0);
  }
  absl::SleepFor(absl::Milliseconds(300));
  kill(child, SIGSTOP);
  absl::SleepFor(absl::Milliseconds(1500));
  kill(child, SIGCONT);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

[[noreturn]] void StallWithAReportThatTakesItsTime() {
  Watchdog watchdog(
      0.1 / kMinute, kPlace, [](const std::string&) { absl::SleepFor(absl::Seconds(1)); }, /*report_seconds=*/20);
  absl::SleepFor(absl::InfiniteDuration());
  _exit(0);
}

TEST_F(WatchdogTest, AReportMayTakeItsTime) {
  EXPECT_EXIT(StallWithAReportThatTakesItsTime(), ExitedWithCode(1),
              HasSubstr("\ngraticule: no progress for 0.1 seconds; the stacks of all threads are in "));
}

[[noreturn]] void StallWithALockThatTheReportNeeds() {
  absl::Mutex mutex;
  mutex.Lock();
  Watchdog watchdog(
      0.1 / kMinute, kPlace, [&](const std::string&) { absl::MutexLock lock(&mutex); }, /*report_seconds=*/1);
  absl::SleepFor(absl::InfiniteDuration());
  _exit(0);
}

TEST_F(WatchdogTest, AReportThatHangsHoldsNothingUp) {
  EXPECT_EXIT(
      StallWithALockThatTheReportNeeds(), ExitedWithCode(1),
      AllOf(HasSubstr("StallWithALockThatTheReportNeeds"), HasSubstr("0.1 seconds, and the report of it hangs too\n")));
}

TEST(StacksTest, AThreadThatDoesNotAnswerIsNamedWithItsState) {
  absl::Notification started, done;
  std::thread silent([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "deaf");
    started.Notify();
    done.WaitForNotification();
  });
  started.WaitForNotification();
  const std::string text = StacksOfAllThreads();
  done.Notify();
  silent.join();
  EXPECT_THAT(text, ContainsRegex("thread [0-9]+ \\(deaf\\):\n    does not answer: S \\(sleeping\\)"));
}

TEST(StacksTest, ThreadsWithTheSameStackStandTogether) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      pthread_setname_np(pthread_self(), "reader");
      ReadFromADiskThatIsGone(pipe_ends[0]);
    });
  }
  absl::SleepFor(absl::Milliseconds(200));
  const std::string text = StacksOfAllThreads();
  close(pipe_ends[1]);
  for (std::thread& thread : threads) thread.join();
  close(pipe_ends[0]);
  EXPECT_THAT(text, ContainsRegex("thread [0-9]+ \\(reader\\), [0-9]+ \\(reader\\), [0-9]+ \\(reader\\):\n"));
  EXPECT_THAT(text, HasSubstr("graticule::ReadFromADiskThatIsGone()"));
}

}  // namespace
}  // namespace graticule
