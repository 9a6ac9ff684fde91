#include "trainer/stop_signal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <thread>

#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(StopSignalTest, TheFirstIsNotedAndALaterOneEndsTheProgram) {
  std::map<int, pid_t> children;
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT, SIGHUP}) {
    const pid_t child = children[signal] = fork();
    if (child == 0) {
      const StopSignal stop;
      if (StopSignal::Requested() != 0) _exit(2);
      raise(signal);
      if (StopSignal::Requested() != signal) _exit(3);
      // What a group's signal does to a rank: it comes from the launcher too.
      raise(signal);
      std::this_thread::sleep_for(std::chrono::milliseconds(1100));
      raise(signal);
      _exit(4);
    }
  }
  for (const auto& [signal, child] : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << SignalName(signal) << ": exit code " << WEXITSTATUS(status);
    EXPECT_EQ(WTERMSIG(status), signal);
  }
}

TEST(StopSignalTest, UnderNohupAHangUpIsNothing) {
  signal(SIGHUP, SIG_IGN);
  const StopSignal stop;
  raise(SIGHUP);
  EXPECT_EQ(StopSignal::Requested(), 0);
  signal(SIGHUP, SIG_DFL);
}

TEST(StopSignalTest, WhatWasThereBeforeComesBack) {
  signal(SIGUSR1, SIG_IGN);
  { const StopSignal stop; }
  raise(SIGUSR1);
  EXPECT_EQ(signal(SIGUSR1, SIG_DFL), SIG_IGN);
}

TEST(StopSignalTest, SignalsHaveTheirNames) {
  EXPECT_EQ(SignalName(SIGTERM), "SIGTERM");
  EXPECT_EQ(SignalName(SIGUSR1), "SIGUSR1");
}

}  // namespace
}  // namespace graticule
