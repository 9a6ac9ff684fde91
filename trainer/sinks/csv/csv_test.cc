#include "trainer/sinks/csv/csv.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"
#include "plugin/registry.h"
#include "tests/faults/shim/fault_shim.h"

namespace graticule {
namespace {

class CsvTest : public testing::Test {
 protected:
  CsvTest() : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::create_directories(folder_);
  }

  ~CsvTest() override { SetFaults(""); }

  std::unique_ptr<Sink> Open(int64_t resume_step = 0, bool resume_validated = true) {
    auto sink = Registry<Sink>::Create(
        Csv(), {.run_directory = folder_, .resume_step = resume_step, .resume_validated = resume_validated});
    EXPECT_TRUE(sink.ok()) << sink.status();
    return *std::move(sink);
  }

  static void Write(Sink& sink, int64_t step, double epoch, const std::map<std::string, double>& values) {
    ASSERT_TRUE(sink.Write({.step = step, .epoch = epoch, .wall_time = 0, .values = values}).ok());
    ASSERT_TRUE(sink.Flush().ok());
  }

  std::string Table() const { return *ReadFile(folder_ + "/metrics.csv"); }

  std::string folder_;
};

TEST_F(CsvTest, ColumnsComeInTheirFixedOrder) {
  const auto sink = Open();
  Write(*sink, 50, 0.5,
        {{"images_per_second", 100},
         {"lr", 1e-3},
         {"data_wait", 0.125},
         {"val/loss", 7},
         {"val/top5", 90},
         {"val/top1", 60.5},
         {"train/rpl/accuracy", 0.75},
         {"train/rpl/loss", 4},
         {"train/apl/accuracy", 0.25},
         {"train/apl/loss", 3},
         {"train/grad_norm", 9},
         {"train/loss", 2.5}});
  EXPECT_EQ(
      Table(),
      "step,epoch,train/loss,train/apl/loss,train/apl/accuracy,train/rpl/loss,train/rpl/accuracy,val/top1,val/top5,"
      "lr,images_per_second,data_wait,train/grad_norm,val/loss\n"
      "50,0.5,2.5,3,0.25,4,0.75,60.5,90,0.001,100,0.125,9,7\n");
}

TEST_F(CsvTest, LaterMetricsWidenTheTable) {
  const auto sink = Open();
  Write(*sink, 1, 0.25, {{"train/loss", 2}, {"lr", 0.5}});
  Write(*sink, 2, 0.5, {{"train/loss", 1}, {"lr", 0.25}});
  EXPECT_EQ(Table(), "step,epoch,train/loss,lr\n1,0.25,2,0.5\n2,0.5,1,0.25\n");
  Write(*sink, 2, 0.5, {{"val/top1", 75}});
  Write(*sink, 3, 0.75, {{"train/loss", NAN}});
  EXPECT_EQ(Table(), "step,epoch,train/loss,val/top1,lr\n1,0.25,2,,0.5\n2,0.5,1,,0.25\n2,0.5,,75,\n3,0.75,nan,,\n");
}

TEST_F(CsvTest, ResumeDropsWhatCameAfter) {
  {
    const auto sink = Open();
    for (int step = 1; step <= 4; ++step) Write(*sink, step, step, {{"train/loss", 1.0 / step}});
  }
  // What a run that was cut off in the middle of a line leaves.
  ASSERT_TRUE(Appender::Open(folder_ + "/metrics.csv")->Write("1").ok());
  const auto sink = Open(2);
  EXPECT_EQ(Table(), "step,epoch,train/loss\n1,1,1\n2,2,0.5\n");
  Write(*sink, 3, 3, {{"lr", 5}});
  EXPECT_EQ(Table(), "step,epoch,train/loss,lr\n1,1,1,\n2,2,0.5,\n3,3,,5\n");
}

// It would pass for a whole one, of another value.
TEST_F(CsvTest, ResumeDropsALineThatWasCutInItsLastCell) {
  {
    const auto sink = Open();
    Write(*sink, 1, 1, {{"train/loss", 0.25}});
    Write(*sink, 2, 2, {{"train/loss", 0.125}});
  }
  std::filesystem::resize_file(folder_ + "/metrics.csv", Table().size() - 2);
  Open(2);
  EXPECT_EQ(Table(), "step,epoch,train/loss\n1,1,0.25\n");
}

TEST_F(CsvTest, ResumeDropsAValidationThatComesAgain) {
  {
    const auto sink = Open();
    for (int step = 1; step <= 3; ++step) {
      Write(*sink, step, step, {{"train/loss", 2}});
      Write(*sink, step, step, {{"val/top1", 50}, {"val_ema/top1", 60}});
      Write(*sink, step, step, {{"val_ema/top1", 70}});
    }
  }
  Open(3);
  const std::string before = "step,epoch,train/loss,val/top1,val_ema/top1\n1,1,2,,\n1,1,,50,60\n1,1,,,70\n2,2,2,,\n";
  EXPECT_EQ(Table(), before + "2,2,,50,60\n2,2,,,70\n3,3,2,,\n3,3,,50,60\n3,3,,,70\n");
  Open(2, /*resume_validated=*/false);
  EXPECT_EQ(Table(), before);
}

// Nothing is lost, and no line stays torn, whether the disk fills within a line or where the table becomes wider.
TEST_F(CsvTest, WhatAFullDiskHadNoRoomForIsWrittenOnceThereIsSome) {
  const auto write = [](Sink& sink, int64_t step, const std::string& metric) {
    const absl::Status written =
        sink.Write({.step = step, .epoch = 1, .wall_time = 0, .values = {{metric, static_cast<double>(step)}}});
    return written.ok() ? sink.Flush() : written;
  };
  const std::string narrow = "step,epoch,a\n1,1,1\n", wide = "step,epoch,a,b\n1,1,1,\n2,1,2,\n";
  for (const char* fault : {"ENOSPC:write:/metrics.csv:3", "ENOSPC:write:/metrics.csv", "EROFS:open:/metrics.csv.tmp",
                            "EIO:rename:/metrics.csv", "EIO:fsync:WhatAFullDisk"}) {
    SCOPED_TRACE(fault);
    SetFaults("");
    const auto sink = Open();
    ASSERT_TRUE(write(*sink, 1, "a").ok());
    EXPECT_EQ(Table(), narrow);
    SetFaults(fault);
    const bool appends = std::string(fault).find("write") == std::string::npos;
    EXPECT_EQ(write(*sink, 2, "a").ok(), appends);
    EXPECT_FALSE(write(*sink, 3, "b").ok());
    EXPECT_FALSE(write(*sink, 4, "a").ok());
    EXPECT_FALSE(sink->Flush().ok());
    SetFaults("");
    EXPECT_TRUE(sink->Flush().ok());
    EXPECT_EQ(Table(), wide + "3,1,,3\n4,1,4,\n");
    ASSERT_TRUE(write(*sink, 5, "b").ok());
    EXPECT_EQ(Table(), wide + "3,1,,3\n4,1,4,\n5,1,,5\n");
  }
}

TEST_F(CsvTest, FreshRunStartsAnew) {
  Write(*Open(), 1, 1, {{"old", 1}});
  Write(*Open(), 1, 1, {{"new", 2}});
  EXPECT_EQ(Table(), "step,epoch,new\n1,1,2\n");
}

TEST_F(CsvTest, NamesNeedNoQuotes) {
  Write(*Open(), 1, 1, {{"train/a,\"b\"/loss", 2}});
  EXPECT_EQ(Table(), "step,epoch,train/a__b_/loss\n1,1,2\n");
}

TEST_F(CsvTest, Errors) {
  const absl::Status nowhere = Registry<Sink>::Create(Csv(), {.run_directory = folder_ + "/none"}).status();
  EXPECT_TRUE(absl::IsNotFound(nowhere)) << nowhere;
  EXPECT_THAT(std::string(nowhere.message()), testing::HasSubstr("none/metrics.csv"));

  ASSERT_TRUE(WriteFile(folder_ + "/metrics.csv", "a,b\n1,2\n").ok());
  const absl::Status foreign = Registry<Sink>::Create(Csv(), {.run_directory = folder_, .resume_step = 1}).status();
  EXPECT_EQ(foreign.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Table(), "a,b\n1,2\n");
}

}  // namespace
}  // namespace graticule
