#include "data/runfiles.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

void WriteFile(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

TEST(RunfilesTest, FindsTheFileOfAnotherRepository) {
  const absl::StatusOr<std::string> path = FindRunfile("digits/digits.csv");
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_TRUE(std::filesystem::exists(*path));
}

TEST(RunfilesTest, FindsTheFolderBesideTheProgram) {
  ::unsetenv("RUNFILES_DIR");
  ::unsetenv("RUNFILES_MANIFEST_FILE");
  const std::string test_srcdir = ::getenv("TEST_SRCDIR");
  ::unsetenv("TEST_SRCDIR");
  const absl::StatusOr<std::string> path = FindRunfile("digits/digits.csv");
  ::setenv("TEST_SRCDIR", test_srcdir.c_str(), 1);
  EXPECT_TRUE(path.ok()) << path.status();
}

TEST(RunfilesTest, FindsTheFolderOfTheEnvironment) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "folder";
  WriteFile(folder / "some_repository/a.txt", "a");
  ::setenv("RUNFILES_DIR", folder.c_str(), 1);
  const absl::StatusOr<std::string> path = FindRunfile("some_repository/a.txt");
  ::unsetenv("RUNFILES_DIR");
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, (folder / "some_repository/a.txt").string());
}

TEST(RunfilesTest, ReadsAManifest) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "manifest";
  WriteFile(folder / "else where/b.txt", "b");
  const std::string path = (folder / "else where/b.txt").string();
  WriteFile(folder / "MANIFEST", "some_repository/b.txt.bak /nowhere\nsome_repository/b.txt " + path + "\n");
  ::setenv("RUNFILES_MANIFEST_FILE", (folder / "MANIFEST").c_str(), 1);
  const absl::StatusOr<std::string> found = FindRunfile("some_repository/b.txt");
  ::unsetenv("RUNFILES_MANIFEST_FILE");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, path);
}

TEST(RunfilesTest, SaysWhereItLooked) {
  const absl::StatusOr<std::string> path = FindRunfile("digits/letters.csv");
  EXPECT_EQ(path.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(path.status().message()), HasSubstr("digits/letters.csv"));
  EXPECT_THAT(std::string(path.status().message()), HasSubstr("runfiles_test.runfiles"));
}

}  // namespace
}  // namespace graticule
