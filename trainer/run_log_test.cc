#include "trainer/run_log.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class RunLogTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(path_); }

  std::unique_ptr<RunLog> Open() {
    auto log = RunLog::Open(path_);
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }
  std::vector<std::string> Lines() {
    const auto text = ReadFile(path_);
    EXPECT_TRUE(text.ok()) << text.status();
    std::vector<std::string> lines = absl::StrSplit(*text, '\n');
    EXPECT_EQ(lines.back(), "");
    lines.pop_back();
    return lines;
  }

  std::string path_ = testing::TempDir() + "/log.txt";
};

TEST_F(RunLogTest, LinesGoToOutputAsTheyAreAndToTheFileWithTheTime) {
  testing::internal::CaptureStdout();
  const absl::Time before = absl::Now() - absl::Seconds(1);
  Open()->Line("loss 0.5 · 12 %");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "loss 0.5 · 12 %\n");
  ASSERT_THAT(Lines(), SizeIs(1));
  const std::string line = Lines()[0];
  absl::Time time;
  std::string error;
  ASSERT_TRUE(absl::ParseTime("%Y-%m-%d %H:%M:%S", line.substr(0, 19), absl::LocalTimeZone(), &time, &error)) << error;
  EXPECT_GE(time, before);
  EXPECT_LE(time, absl::Now());
  EXPECT_EQ(line.substr(19), " loss 0.5 · 12 %");
}

TEST_F(RunLogTest, ASecondOpeningAppends) {
  Open()->Line("first");
  Open()->Line("second");
  EXPECT_THAT(Lines(), testing::ElementsAre(EndsWith(" first"), EndsWith(" second")));
}

TEST_F(RunLogTest, WarningsAndErrorsGoToTheFileWhileItLives) {
  auto log = Open();
  LOG(INFO) << "unimportant";
  LOG(WARNING) << "image 7 is broken";
  LOG(ERROR) << "the disk is full";
  log.reset();
  LOG(WARNING) << "too late";
  EXPECT_THAT(Lines(),
              testing::ElementsAre(EndsWith(" warning: image 7 is broken"), EndsWith(" error: the disk is full")));
}

TEST_F(RunLogTest, WithoutATerminalThereIsNoProgressLine) {
  testing::internal::CaptureStdout();
  {
    const auto log = Open();
    ASSERT_FALSE(log->has_terminal());
    log->Progress("step 1");
    log->Line("done");
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "done\n");
  EXPECT_THAT(Lines(), testing::ElementsAre(EndsWith(" done")));
}

// A terminal of some columns in place of standard output while it lives.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) : master_(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)) {
    EXPECT_TRUE(master_ >= 0 && grantpt(master_) == 0 && unlockpt(master_) == 0);
    const int slave = open(ptsname(master_), O_RDWR | O_NOCTTY);
    const winsize size{.ws_row = 24, .ws_col = columns};
    EXPECT_EQ(ioctl(slave, TIOCSWINSZ, &size), 0);
    std::cout << std::flush;
    output_ = dup(STDOUT_FILENO);
    dup2(slave, STDOUT_FILENO);
    close(slave);
  }
  ~Terminal() {
    std::cout << std::flush;
    dup2(output_, STDOUT_FILENO);
    close(output_);
    close(master_);
  }

  // What was written to it since.
  std::string Read() {
    std::cout << std::flush;
    std::string all;
    char bytes[4096];
    for (ssize_t count; (count = read(master_, bytes, sizeof bytes)) > 0;) all.append(bytes, count);
    return all;
  }

 private:
  int master_;
  int output_;
};

TEST_F(RunLogTest, TheProgressLineIsReplacedAndCutToTheTerminal) {
  Terminal terminal(12);
  auto log = Open();
  ASSERT_TRUE(log->has_terminal());
  EXPECT_EQ(log->columns(), 11);
  log->Progress("step 1/2 · 9");
  EXPECT_EQ(terminal.Read(), "\r\033[Kstep 1/2 · ");  // 11 characters, one of two bytes
  log->Progress("step 2/2 ·");
  EXPECT_EQ(terminal.Read(), "\r\033[Kstep 2/2 ·");
  log->Line("a line that is longer than the terminal");
  EXPECT_EQ(terminal.Read(), "\r\033[Ka line that is longer than the terminal\r\nstep 2/2 ·");
  log->Detail("only to the file");
  EXPECT_EQ(terminal.Read(), "");
  log.reset();
  EXPECT_EQ(terminal.Read(), "\r\033[K");
  EXPECT_THAT(Lines(), testing::ElementsAre(EndsWith(" terminal"), EndsWith(" only to the file")));
}

TEST_F(RunLogTest, ATerminalOfNoWidthCutsNothing) {
  Terminal terminal(0);
  auto log = Open();
  EXPECT_EQ(log->columns(), 0);
  log->Progress(std::string(300, 'x'));
  EXPECT_EQ(terminal.Read(), "\r\033[K" + std::string(300, 'x'));
}

TEST_F(RunLogTest, AQuietOneWritesToTheFileAlone) {
  Terminal terminal(80);
  auto log = *RunLog::Open(path_, /*quiet=*/true);
  log->Progress("step 1");
  log->Line("first");
  log->Detail("second");
  log.reset();
  EXPECT_EQ(terminal.Read(), "");
  EXPECT_THAT(Lines(), testing::ElementsAre(EndsWith(" first"), EndsWith(" second")));
}

TEST_F(RunLogTest, APathThatCannotBeWrittenIsAnError) {
  const std::string path = testing::TempDir() + "/no/such/folder/log.txt";
  const auto log = RunLog::Open(path);
  EXPECT_EQ(log.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(log.status().message()), AllOf(HasSubstr(path), HasSubstr("No such file or directory")));
  EXPECT_FALSE(RunLog::Open(testing::TempDir()).ok());
}

}  // namespace
}  // namespace graticule
