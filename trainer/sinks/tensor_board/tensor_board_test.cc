#include "trainer/sinks/tensor_board/tensor_board.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "data/decode/test_files.h"
#include "data/image.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"
#include "plugin/registry.h"
#include "tests/faults/shim/fault_shim.h"
#include "trainer/sinks/tensor_board/event.pb.h"
#include "trainer/sinks/tensor_board/record.h"

namespace graticule {
namespace {

using tensor_board::Crc32c;
using tensor_board::Event;
using ::testing::ElementsAre;

// Long division, most significant bit first, by the polynomial as RFC 3720 prints it; bytes enter bit-reversed.
uint32_t SlowCrc32c(std::string_view bytes) {
  std::vector<int> bits;
  for (const char byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) bits.push_back((byte >> bit) & 1);
  }
  bits.resize(bits.size() + 32);
  for (int i = 0; i < 32; ++i) bits[i] ^= 1;
  for (size_t i = 0; i + 32 < bits.size(); ++i) {
    if (bits[i] == 0) continue;
    for (int j = 0; j <= 32; ++j) bits[i + j] ^= (0x11EDC6F41 >> (32 - j)) & 1;
  }
  uint32_t crc = 0;
  for (int i = 0; i < 32; ++i) crc |= static_cast<uint32_t>(bits[bits.size() - 32 + i] ^ 1) << i;
  return crc;
}

// The events of a file, read by the format's description.
std::vector<Event> ReadEvents(const std::string& path) {
  const std::string bytes = *ReadFile(path);
  const auto unmasked = [&](size_t at) {
    uint32_t masked;
    std::memcpy(&masked, bytes.data() + at, 4);
    const uint32_t rotated = masked - 0xA282EAD8u;
    return (rotated >> 17) | (rotated << 15);
  };
  std::vector<Event> events;
  size_t at = 0;
  while (at < bytes.size()) {
    uint64_t length;
    std::memcpy(&length, bytes.data() + at, 8);
    EXPECT_EQ(unmasked(at + 8), SlowCrc32c(std::string_view(bytes).substr(at, 8)));
    const std::string data = bytes.substr(at + 12, length);
    EXPECT_EQ(unmasked(at + 12 + length), SlowCrc32c(data));
    Event event;
    EXPECT_TRUE(event.ParseFromString(data));
    events.push_back(event);
    at += length + 16;
  }
  EXPECT_EQ(at, bytes.size());
  return events;
}

class TensorBoardTest : public testing::Test {
 protected:
  TensorBoardTest()
      : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  ~TensorBoardTest() override { SetFaults(""); }

  std::unique_ptr<Sink> Open(int64_t resume_step) {
    auto sink = Registry<Sink>::Create(TensorBoard(), {.run_directory = folder_, .resume_step = resume_step});
    EXPECT_TRUE(sink.ok()) << sink.status();
    return *std::move(sink);
  }

  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }

  std::string folder_;
};

TEST_F(TensorBoardTest, ChecksumsAreThoseOfRfc3720) {
  std::string ascending, descending;
  for (int i = 0; i < 32; ++i) {
    ascending.push_back(static_cast<char>(i));
    descending.push_back(static_cast<char>(31 - i));
  }
  const std::string iscsi_read(
      "\x01\xC0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\x04\0\0\0\0\x14\0\0\0\x18\x28\0\0\0\0\0\0\0\x02\0\0\0\0\0\0"
      "\0",
      48);
  const std::map<std::string, uint32_t> known = {{std::string(32, '\0'), 0x8A9136AA},
                                                 {std::string(32, '\xFF'), 0x62A8AB43},
                                                 {ascending, 0x46DD794E},
                                                 {descending, 0x113FDB5C},
                                                 {iscsi_read, 0xD9963A56},
                                                 {"123456789", 0xE3069283},
                                                 {"", 0}};
  for (const auto& [bytes, crc] : known) {
    EXPECT_EQ(Crc32c(bytes), crc);
    EXPECT_EQ(SlowCrc32c(bytes), crc);
  }
}

TEST_F(TensorBoardTest, WritesScalars) {
  const auto sink = Open(0);
  ASSERT_TRUE(
      sink->Write({.step = 7, .epoch = 0.5, .wall_time = 12.5, .values = {{"lr", 0.25}, {"train/loss", 2.5}}}).ok());
  ASSERT_TRUE(sink->Write({.step = 9, .epoch = 1, .wall_time = 13.5, .values = {{"val/top1", 75}}}).ok());
  ASSERT_TRUE(sink->Flush().ok());
  ASSERT_EQ(Files().size(), 1);
  EXPECT_THAT(Files()[0], testing::HasSubstr("/events.out.tfevents."));
  const std::vector<Event> events = ReadEvents(Files()[0]);
  ASSERT_EQ(events.size(), 4);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].session_log().status(), tensor_board::SessionLog::START);
  EXPECT_EQ(events[2].step(), 7);
  EXPECT_EQ(events[2].wall_time(), 12.5);
  ASSERT_EQ(events[2].summary().value_size(), 2);
  EXPECT_EQ(events[2].summary().value(0).tag(), "lr");
  EXPECT_EQ(events[2].summary().value(0).simple_value(), 0.25);
  EXPECT_EQ(events[2].summary().value(1).tag(), "train/loss");
  EXPECT_EQ(events[3].step(), 9);
  EXPECT_EQ(events[3].summary().value(0).simple_value(), 75);
}

// Limits are powers of 1.1 apart, and a run of empty buckets is one.
TEST_F(TensorBoardTest, WritesHistograms) {
  const auto sink = Open(0);
  const double inf = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(sink->WriteMedia({.step = 7,
                                .wall_time = 12.5,
                                .histograms = {{"norm/none", {NAN, -inf}},
                                               {"norm/weights", {1, -2.5, 0, 1.01, NAN, inf, 3e20, 1e-13}}}})
                  .ok());
  ASSERT_TRUE(sink->Flush().ok());
  const std::vector<Event> events = ReadEvents(Files()[0]);
  ASSERT_EQ(events.size(), 3);
  EXPECT_EQ(events[2].step(), 7);
  EXPECT_EQ(events[2].wall_time(), 12.5);
  ASSERT_EQ(events[2].summary().value_size(), 2);

  EXPECT_EQ(events[2].summary().value(1).tag(), "norm/weights");
  const tensor_board::Histogram histogram = events[2].summary().value(1).histo();
  EXPECT_EQ(histogram.min(), -2.5);
  EXPECT_EQ(histogram.max(), 3e20);
  EXPECT_EQ(histogram.num(), 6);
  EXPECT_EQ(histogram.sum(), -2.5 + 1 + 1.01 + 3e20 + 1e-13);
  EXPECT_DOUBLE_EQ(histogram.sum_squares(), 9e40);
  const auto limit = [](int k) { return 1e-12 * std::pow(1.1, k); };
  const double greatest = std::numeric_limits<double>::max();
  // -2.5 is above -1.1^300e-12 = -2.617 and below -2.379, 1 below 1.1^290e-12 = 1.0091, and 1.01 above it.
  const std::vector<double> limits = {-limit(300), -limit(299), 0,          limit(0), limit(289),
                                      limit(290),  limit(291),  limit(773), greatest};
  ASSERT_EQ(histogram.bucket_limit_size(), limits.size());
  for (size_t i = 0; i < limits.size(); ++i) {
    EXPECT_LE(std::abs(histogram.bucket_limit(i) - limits[i]), 1e-12 * std::abs(limits[i])) << i;
  }
  EXPECT_THAT(histogram.bucket(), ElementsAre(0, 1, 0, 2, 0, 1, 1, 0, 1));

  const tensor_board::Histogram none = events[2].summary().value(0).histo();
  EXPECT_EQ(none.num() + none.min() + none.max() + none.sum() + none.sum_squares(), 0);
  EXPECT_THAT(none.bucket(), ElementsAre(0));
}

TEST_F(TensorBoardTest, WritesImages) {
  const auto sink = Open(0);
  const std::string png = PngFile({2, 3, Pixels(18, 100)});
  ASSERT_TRUE(sink->WriteMedia({.step = 7, .wall_time = 12.5, .images = {{"cells/apl", png}}}).ok());
  ASSERT_TRUE(sink->Flush().ok());
  const std::vector<Event> events = ReadEvents(Files()[0]);
  ASSERT_EQ(events.size(), 3);
  EXPECT_EQ(events[2].step(), 7);
  ASSERT_EQ(events[2].summary().value_size(), 1);
  EXPECT_EQ(events[2].summary().value(0).tag(), "cells/apl");
  const tensor_board::Summary::Image image = events[2].summary().value(0).image();
  EXPECT_EQ(image.height(), 2);
  EXPECT_EQ(image.width(), 3);
  EXPECT_EQ(image.colorspace(), 3);
  EXPECT_EQ(image.encoded_image_string(), png);
}

TEST_F(TensorBoardTest, WhatAFullDiskHadNoRoomForIsWrittenOnceThereIsSome) {
  const auto sink = Open(0);
  const std::string png = PngFile({2, 3, Pixels(18, 100)});
  // Within a record.
  SetFaults("ENOSPC:write:events.out:70");
  for (int64_t step = 1; step <= 20; ++step) {
    const absl::Status written =
        step % 5 == 0 ? sink->WriteMedia({.step = step, .wall_time = 1, .images = {{"cells/apl", png}}})
                      : sink->Write({.step = step, .epoch = 1, .wall_time = 1, .values = {{"lr", 0.25}}});
    EXPECT_EQ(written.ok() && sink->Flush().ok(), step == 1) << step;
  }
  SetFaults("");
  ASSERT_TRUE(sink->Flush().ok());
  const std::vector<Event> events = ReadEvents(Files()[0]);
  ASSERT_EQ(events.size(), 22);
  for (int64_t step = 1; step <= 20; ++step) EXPECT_EQ(events[step + 1].step(), step);
}

TEST_F(TensorBoardTest, ResumedRunSaysWhatToDrop) {
  ASSERT_TRUE(Open(0)->Flush().ok());
  ASSERT_TRUE(Open(40)->Flush().ok());
  ASSERT_EQ(Files().size(), 2);
  EXPECT_EQ(ReadEvents(Files()[0])[1].step(), 1);
  EXPECT_EQ(ReadEvents(Files()[1])[1].step(), 41);
}

TEST_F(TensorBoardTest, FolderMustExist) {
  EXPECT_TRUE(absl::IsNotFound(Registry<Sink>::Create(TensorBoard(), {.run_directory = folder_ + "/none"}).status()));
}

}  // namespace
}  // namespace graticule
