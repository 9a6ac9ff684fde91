#include "trainer/distributed/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string Text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class LauncherTest : public testing::Test {
 protected:
  LauncherTest()
      : folder_(absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  LaunchOptions Script(int processes, const std::string& script) {
    return {.processes = processes,
            .command = {"sh", "-c", absl::StrCat("cd ", folder_, "; ", script)},
            .grace_seconds = 20};
  }

  // Launches in a process of its own, with its stderr in a file.
  pid_t LaunchElsewhere(const LaunchOptions& options) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    dup2(open((folder_ + "/stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), 2);
    int code = 0;
    const absl::Status status = Launch(options, &code);
    if (!status.ok()) dprintf(2, "%s\n", std::string(status.message()).c_str());
    _exit(code);
  }

  void WaitForFile(const std::string& name) {
    for (int i = 0; i < 2000 && !std::filesystem::exists(folder_ + "/" + name); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(std::filesystem::exists(folder_ + "/" + name)) << name;
  }

  std::string folder_;
};

int ExitCode(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(LauncherTest, EachRankIsToldWhoItIs) {
  setenv("WORLD_SIZE", "77", 1);
  LaunchOptions options = Script(3, R"(
      echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $OMP_NUM_THREADS $MASTER_PORT >env-$RANK
      if [ $RANK = 0 ]; then readlink /proc/self/fd/$GRATICULE_STORE_FD >socket; fi
      if [ $RANK = 1 ]; then echo "store: '$GRATICULE_STORE_FD'" >socket-1; fi)");
  options.environment = {"OMP_NUM_THREADS=5"};
  int code = 9;
  EXPECT_TRUE(Launch(options, &code).ok());
  EXPECT_EQ(code, 0);
  unsetenv("WORLD_SIZE");
  for (int rank = 0; rank < 3; ++rank) {
    const std::string text = Text(absl::StrCat(folder_, "/env-", rank));
    EXPECT_THAT(text, StartsWith(absl::StrCat(rank, " 3 ", rank, " 3 127.0.0.1 5 ")));
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(text.substr(text.rfind(' ') + 1), &port)) << text;
    EXPECT_GT(port, 1023);
  }
  EXPECT_THAT(Text(folder_ + "/socket"), StartsWith("socket:"));
  EXPECT_EQ(Text(folder_ + "/socket-1"), "store: ''\n");
}

TEST_F(LauncherTest, OneThatFailsEndsTheOthersAndIsNamedWithItsLastWords) {
  int code = 0;
  const absl::Status status = Launch(Script(3, R"(
      trap 'echo asked >term-$RANK; exit 0' TERM
      : >ready-$RANK
      if [ $RANK = 1 ]; then
        while ! [ -e ready-0 -a -e ready-2 ]; do sleep 0.01; done
        for i in 1 2 3 4 5 6 7 8 9 10 11; do echo line $i; done
        echo out of memory >&2; exit 5
      fi
      while :; do sleep 0.05; done)"),
                                     &code);
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(code, 5);
  EXPECT_THAT(std::string(status.message()),
              AllOf(StartsWith("rank 1 ended with exit code 5; its last words:\n  line 3\n"),
                    HasSubstr("  line 11\n  out of memory"), Not(HasSubstr("line 2\n"))));
  EXPECT_EQ(Text(folder_ + "/term-0"), "asked\n");
  EXPECT_EQ(Text(folder_ + "/term-2"), "asked\n");
  // None is left, not even as a zombie.
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(LauncherTest, TheOneThatSaysSoFailedAndNotTheFirstToEnd) {
  int code = 0;
  const absl::Status status = Launch(Script(3, R"(
      trap '' TERM
      if [ $RANK = 0 ]; then while ! [ -e said ]; do sleep 0.01; done; exit 3; fi
      if [ $RANK = 1 ]; then echo 1 >/proc/self/fd/$GRATICULE_FAILURE_FD; : >said; sleep 0.3; exit 4; fi)"),
                                     &code);
  EXPECT_EQ(code, 4);
  EXPECT_EQ(status.message(), "rank 1 ended with exit code 4");
}

TEST_F(LauncherTest, OnesThatDoNotListenAreKilledAfterTheGrace) {
  LaunchOptions options = Script(2, R"(
      if [ $RANK = 1 ]; then while ! [ -e deaf ]; do sleep 0.01; done; kill -SEGV $$; fi
      trap '' TERM; : >deaf; sleep 60)");
  options.grace_seconds = 0.3;
  const auto begin = std::chrono::steady_clock::now();
  int code = 0;
  const absl::Status status = Launch(options, &code);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_EQ(code, 128 + SIGSEGV);
  EXPECT_EQ(status.message(), "rank 1 was ended by SIGSEGV");
}

TEST_F(LauncherTest, ACommandThatCannotBeRunIsAnError) {
  int code = 0;
  const absl::Status status = Launch({.processes = 2, .command = {"no-such-program"}, .grace_seconds = 5}, &code);
  EXPECT_EQ(code, 127);
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()), HasSubstr(" ended with exit code 127"));
}

TEST_F(LauncherTest, SignalsGoOnToAllRanks) {
  const pid_t pid = LaunchElsewhere(Script(2, R"(
      trap 'echo saving >usr1-$RANK' USR1
      trap 'echo leaving >term-$RANK; exit 0' TERM
      : >ready-$RANK
      while :; do sleep 0.05; done)"));
  WaitForFile("ready-0");
  WaitForFile("ready-1");
  kill(pid, SIGUSR1);
  WaitForFile("usr1-0");
  WaitForFile("usr1-1");
  kill(pid, SIGTERM);
  EXPECT_EQ(ExitCode(pid), 0);
  EXPECT_EQ(Text(folder_ + "/term-0"), "leaving\n");
  EXPECT_EQ(Text(folder_ + "/term-1"), "leaving\n");
}

TEST_F(LauncherTest, RanksDieWithTheLauncher) {
  const pid_t pid = LaunchElsewhere(Script(2, "echo $$ >new-$RANK; mv new-$RANK pid-$RANK; exec sleep 60"));
  WaitForFile("pid-0");
  WaitForFile("pid-1");
  kill(pid, SIGKILL);
  EXPECT_EQ(ExitCode(pid), 128 + SIGKILL);
  for (const char* name : {"/pid-0", "/pid-1"}) {
    int rank = 0;
    ASSERT_TRUE(absl::SimpleAtoi(Text(folder_ + name), &rank));
    // Dead ones stay zombies where nobody is there to reap orphans.
    const auto alive = [&] {
      const std::string state = Text(absl::StrCat("/proc/", rank, "/stat"));
      return !state.empty() && !absl::StrContains(state, ") Z ");
    };
    for (int i = 0; i < 500 && alive(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(alive());
  }
}

TEST_F(LauncherTest, OutputOfRank0IsAsItStandsAndThatOfTheOthersHasTheirNames) {
  const pid_t pid = LaunchElsewhere(Script(2, R"(
      if [ $RANK = 0 ]; then printf 'progress\r' >&2; exit 0; fi
      cat; echo to stdout; printf '10%%\r20%%\rdone\n' >&2; printf 'without an end')"));
  EXPECT_EQ(ExitCode(pid), 0);
  const std::string text = Text(folder_ + "/stderr");
  EXPECT_THAT(text, AllOf(HasSubstr("progress\r"), HasSubstr("[rank 1] to stdout\n"), HasSubstr("[rank 1] done\n"),
                          HasSubstr("[rank 1] without an end\n"), Not(HasSubstr("[rank 0]"))));
}

TEST(RankCommandTest, IsThisProgramWithoutTheNumberOfProcesses) {
  EXPECT_THAT(RankCommand({"train", "a.textproto", "--processes=2", "--set", "x=1"}),
              testing::ElementsAre("/proc/self/exe", "train", "a.textproto", "--set", "x=1"));
  EXPECT_THAT(RankCommand({"train", "--processes", "4", "a.textproto"}),
              testing::ElementsAre("/proc/self/exe", "train", "a.textproto"));
}

}  // namespace
}  // namespace graticule
