#include "trainer/stop_signal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(StopSignalTest, TheFirstIsNotedAndTheSecondEndsTheProgram) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    const pid_t child = fork();
    if (child == 0) {
      const StopSignal stop;
      if (StopSignal::Requested() != 0) _exit(2);
      raise(signal);
      if (StopSignal::Requested() != signal) _exit(3);
      raise(signal);
      _exit(4);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << SignalName(signal) << ": exit code " << WEXITSTATUS(status);
    EXPECT_EQ(WTERMSIG(status), signal);
  }
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
