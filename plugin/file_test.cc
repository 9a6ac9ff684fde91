#include "plugin/file.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faults/shim/fault_shim.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

TEST(FileTest, WhatIsWrittenIsRead) {
  const std::string path = testing::TempDir() + "/file_test.bin";
  std::string bytes(100'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  ASSERT_TRUE(WriteFile(path, bytes).ok());
  EXPECT_EQ(*ReadFile(path), bytes);
  ASSERT_TRUE(WriteFileAtomically(path, "short").ok());
  EXPECT_EQ(*ReadFile(path), "short");
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
  ASSERT_TRUE(WriteFile(path, "").ok());
  EXPECT_EQ(*ReadFile(path), "");
}

TEST(FileTest, ErrorsNameThePathAndTheReason) {
  const std::string missing = testing::TempDir() + "/no/such/file";
  EXPECT_TRUE(absl::IsNotFound(ReadFile(missing).status()));
  EXPECT_THAT(std::string(ReadFile(missing).status().message()), HasSubstr("cannot read '" + missing + "'"));
  EXPECT_THAT(std::string(WriteFile(missing, "x").message()), HasSubstr("No such file"));
  EXPECT_THAT(std::string(ReadFile(testing::TempDir()).status().message()), HasSubstr("Is a directory"));
  EXPECT_THAT(std::string(WriteFile("/dev/full", "x").message()), HasSubstr("No space left on device"));
}

TEST(FileTest, RegularFilesAloneMayBeAskedFor) {
  const std::string folder = testing::TempDir() + "/regular";
  std::filesystem::remove_all(folder);
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  ASSERT_EQ(mkfifo((folder + "/pipe").c_str(), 0600), 0);
  for (const std::string& path : {folder, folder + "/pipe", std::string("/dev/zero")}) {
    EXPECT_EQ(std::string(ReadRegularFile(path).status().message()),
              "cannot read '" + path + "': not a file but a folder, a pipe or a device");
  }
  ASSERT_TRUE(WriteFile(folder + "/file", "text").ok());
  EXPECT_EQ(*ReadRegularFile(folder + "/file"), "text");
  EXPECT_TRUE(absl::IsNotFound(ReadRegularFile(folder + "/none").status()));
}

TEST(FileTest, FailedReplacementKeepsTheOldFile) {
  const std::string path = testing::TempDir() + "/file_test_kept";
  ASSERT_TRUE(WriteFile(path, "old").ok());
  // What stands in the way of the temporary file.
  ASSERT_EQ(mkdir((path + ".tmp").c_str(), 0700), 0);
  EXPECT_FALSE(WriteFileAtomically(path, "new").ok());
  EXPECT_EQ(*ReadFile(path), "old");
}

TEST(FileTest, AppenderGoesOnWhereTheFileEnds) {
  const std::string path = testing::TempDir() + "/file_test_log";
  ASSERT_TRUE(WriteFile(path, "one\n").ok());
  auto appender = Appender::Open(path);
  ASSERT_TRUE(appender.ok()) << appender.status();
  ASSERT_TRUE(appender->Write("two\n").ok());
  ASSERT_TRUE(appender->Flush().ok());
  EXPECT_EQ(*ReadFile(path), "one\ntwo\n");
}

TEST(FileTest, AppenderMovesWithWhatItKeeps) {
  const std::string folder = testing::TempDir();
  ASSERT_TRUE(WriteFile(folder + "/moved_1", "").ok());
  ASSERT_TRUE(WriteFile(folder + "/moved_2", "").ok());
  {
    Appender first = *Appender::Open(folder + "/moved_1"), second = *Appender::Open(folder + "/moved_2");
    ASSERT_TRUE(first.Write("one").ok());
    ASSERT_TRUE(second.Write("two").ok());
    first = std::move(second);
    ASSERT_TRUE(first.Write("three").ok());
  }
  EXPECT_EQ(*ReadFile(folder + "/moved_1"), "one");
  EXPECT_EQ(*ReadFile(folder + "/moved_2"), "twothree");
}

TEST(FileTest, PiecesMakeAFile) {
  const std::string path = testing::TempDir() + "/file_test_pieces";
  auto writer = FileWriter::Open(path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->Write("abc").ok());
  ASSERT_TRUE(writer->Write("").ok());
  ASSERT_TRUE(writer->Write("defg").ok());
  ASSERT_TRUE(writer->Close().ok());

  auto reader = FileReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->size(), 7);
  char bytes[5] = {};
  EXPECT_EQ(*reader->Read(bytes, 5), 5);
  EXPECT_EQ(std::string(bytes, 5), "abcde");
  EXPECT_EQ(*reader->Read(bytes, 5), 2);
  EXPECT_EQ(std::string(bytes, 2), "fg");
  EXPECT_EQ(*reader->Read(bytes, 5), 0);

  EXPECT_THAT(std::string(FileReader::Open(testing::TempDir()).status().message()), HasSubstr("Is a directory"));
  EXPECT_THAT(std::string(FileWriter::Open("/dev/full")->Write("x").message()), HasSubstr("No space left on device"));
}

TEST(FileTest, AppenderKeepsSoMuchOfWhatAFullDiskHasNoRoomFor) {
  const std::string path = testing::TempDir() + "/file_test_full";
  ASSERT_TRUE(WriteFile(path, "").ok());
  auto appender = Appender::Open(path);
  ASSERT_TRUE(appender.ok()) << appender.status();
  SetFaults("ENOSPC:write:/file_test_full:100000");
  constexpr size_t kPart = 1'000'000;
  int failed = 0;
  for (int i = 0; i < 100; ++i) failed += !appender->Write(std::string(kPart, static_cast<char>(i))).ok();
  SetFaults("");
  EXPECT_EQ(failed, 100);
  ASSERT_TRUE(appender->Write("the end").ok());
  ASSERT_TRUE(appender->Flush().ok());

  // The first ones, each whole.
  const std::string bytes = *ReadFile(path);
  EXPECT_TRUE(bytes.ends_with("the end"));
  const size_t parts = bytes.size() / kPart;
  ASSERT_EQ(bytes.size(), parts * kPart + 7);
  EXPECT_GT(parts, 60);
  EXPECT_LT(parts, 70);
  for (size_t i = 0; i < parts * kPart; ++i) ASSERT_EQ(bytes[i], static_cast<char>(i / kPart));
}

TEST(FileTest, AppenderReportsAFullDisk) {
  auto appender = Appender::Open("/dev/full");
  ASSERT_TRUE(appender.ok()) << appender.status();
  EXPECT_TRUE(appender->Write("x").ok());
  EXPECT_THAT(std::string(appender->Flush().message()), HasSubstr("cannot write '/dev/full': No space left"));
  EXPECT_TRUE(absl::IsNotFound(Appender::Open(testing::TempDir() + "/no/such/file").status()));
}

}  // namespace
}  // namespace graticule
