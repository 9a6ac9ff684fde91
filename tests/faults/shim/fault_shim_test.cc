#include "tests/faults/shim/fault_shim.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FaultShimTest : public testing::Test {
 protected:
  FaultShimTest() : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~FaultShimTest() override { SetFaults(""); }

  const std::string folder_;
};

TEST_F(FaultShimTest, BytesRunOut) {
  SetFaults("ENOSPC:write:/full/:10");
  fs::create_directory(folder_ + "/full");
  EXPECT_TRUE(WriteFile(folder_ + "/other", std::string(20, 'x')).ok());
  EXPECT_TRUE(WriteFile(folder_ + "/full/first", "1234567").ok());
  EXPECT_THAT(std::string(WriteFile(folder_ + "/full/second", "1234567").message()), HasSubstr("No space left"));
  EXPECT_EQ(fs::file_size(folder_ + "/full/second"), 3);
  EXPECT_EQ(FaultCount(), 1);
  std::ofstream stream(folder_ + "/full/third");
  stream << std::string(100'000, 'x') << std::flush;
  EXPECT_FALSE(stream.good());
  EXPECT_EQ(FaultCount(), 2);
}

TEST_F(FaultShimTest, CallsFailSoOftenAndFromThere) {
  const std::string path = folder_ + "/file";
  SetFaults("EIO:fsync:/file:1:2");
  EXPECT_TRUE(WriteFile(path, "a").ok());
  EXPECT_THAT(std::string(WriteFile(path, "a").message()), HasSubstr("Input/output error"));
  EXPECT_FALSE(WriteFile(path, "a").ok());
  EXPECT_TRUE(WriteFile(path, "a").ok());
  EXPECT_EQ(FaultCount(), 2);
}

TEST_F(FaultShimTest, EveryCallCanFail) {
  fs::create_directory(folder_ + "/sub");
  ASSERT_TRUE(WriteFile(folder_ + "/sub/file", "abc").ok());
  SetFaults("EROFS:open,rename,mkdir,symlink,remove:EveryCallCanFail/sub;EIO:read:/sub/file:2");
  std::error_code error;
  const auto read_only = std::make_error_code(std::errc::read_only_file_system);
  EXPECT_THAT(std::string(WriteFile(folder_ + "/sub/other", "").message()), HasSubstr("Read-only file system"));
  EXPECT_FALSE(std::ofstream(folder_ + "/sub/other").good());
  fs::create_directory(folder_ + "/sub/folder", error);
  EXPECT_EQ(error, read_only);
  fs::rename(folder_ + "/sub/file", folder_ + "/sub/renamed", error);
  EXPECT_EQ(error, read_only);
  fs::create_symlink("file", folder_ + "/sub/link", error);
  EXPECT_EQ(error, read_only);
  fs::remove(folder_ + "/sub/file", error);
  EXPECT_EQ(error, read_only);
  fs::remove_all(folder_ + "/sub", error);
  EXPECT_EQ(error, read_only);
  EXPECT_TRUE(fs::exists(folder_ + "/sub/file"));
  EXPECT_THAT(std::string(ReadFile(folder_ + "/sub/file").status().message()), HasSubstr("Input/output error"));
  SetFaults("");
  EXPECT_EQ(*ReadFile(folder_ + "/sub/file"), "abc");
}

TEST_F(FaultShimTest, CallsAreSlow) {
  SetFaults("SLEEP30:fsync:/slow");
  const absl::Time start = absl::Now();
  ASSERT_TRUE(WriteFile(folder_ + "/slow", "a").ok());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(30));
}

TEST_F(FaultShimTest, WrongFaultsEndTheProgram) {
  EXPECT_DEATH(SetFaults("ENOSPC:write"), "expected WHAT:CALLS:PATH");
  EXPECT_DEATH(SetFaults("ENOROOM:write:/"), "unknown error ENOROOM");
  EXPECT_DEATH(SetFaults("EIO:wite:/"), "unknown call wite");
}

// Runs a command of the shell under LD_PRELOAD; its status as wait gives it.
int Shell(const std::string& command, const std::string& faults) {
  const std::string shim =
      fs::absolute(std::string(std::getenv("TEST_SRCDIR")) + "/graticule/tests/faults/shim/fault_preload.so");
  const pid_t child = fork();
  if (child == 0) {
    setenv("LD_PRELOAD", shim.c_str(), 1);
    setenv(kFaultVariable, faults.c_str(), 1);
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

TEST_F(FaultShimTest, OtherProgramsAreMadeToFail) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
  GTEST_SKIP() << "the library needs the sanitizer's own in the program";
#endif
#endif
  EXPECT_EQ(Shell(absl::StrCat("echo text > ", folder_, "/good"), "EIO:write:/bad"), 0);
  EXPECT_EQ(*ReadFile(folder_ + "/good"), "text\n");
  EXPECT_NE(Shell(absl::StrCat("echo text > ", folder_, "/bad"), "EIO:write:/bad"), 0);
  EXPECT_EQ(*ReadFile(folder_ + "/bad"), "");
  EXPECT_NE(Shell(absl::StrCat("mv ", folder_, "/good ", folder_, "/moved"), "EIO:rename:/moved"), 0);
  const int killed = Shell(absl::StrCat("exec mv ", folder_, "/good ", folder_, "/moved"), "SIGKILL:rename:/moved");
  EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL);
  EXPECT_TRUE(fs::exists(folder_ + "/good"));
}

}  // namespace
}  // namespace graticule
