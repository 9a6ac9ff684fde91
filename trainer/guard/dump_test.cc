#include "trainer/guard/dump.h"

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/tensor.h"
#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

Dump NewDump(int64_t step, int rank = 0) {
  Dump dump;
  dump.state.set_step(step);
  dump.state.set_rank(rank);
  dump.state.set_world_size(2);
  dump.state.set_seed(7);
  dump.state.set_progress(0.125);
  dump.state.set_learning_rate(0.001);
  dump.state.set_precision(Trainer::BF16);
  dump.state.set_loss(std::numeric_limits<double>::quiet_NaN());
  dump.state.set_gradient_norm(std::numeric_limits<double>::infinity());
  dump.state.set_cause("the parameter blocks.0.weight is not finite");
  for (const char* name : {"cat/1.jpg", "dog/7.jpg", "dog/8.jpg"}) dump.state.add_samples(name);
  dump.batches = {
      {.images = at::randint(256, {2, 3, 4, 4}, at::kByte).contiguous(at::MemoryFormat::ChannelsLast),
       .labels = at::tensor({0, 1}, at::kLong),
       .soft_labels = at::rand({2, 2}),
       .teacher_logits = at::rand({2, 2}),
       .indices = {11, 17}},
      {.images = at::randint(256, {1, 3, 4, 4}, at::kByte), .labels = at::tensor({1}, at::kLong), .indices = {18}}};
  dump.model.tensors.emplace_back("blocks.0.weight", at::full({100}, static_cast<double>(step), at::kFloat));
  dump.model.metadata["class_names"] = "cat\ndog";
  dump.objectives.tensors.emplace_back("apl.head.weight", at::full({3}, 0.5, at::kFloat));
  return dump;
}

class DumpTest : public testing::Test {
 protected:
  DumpTest() {
    fs::remove_all(run_);
    fs::create_directories(run_);
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(run_ + "/dumps")) names.push_back(entry.path().filename());
    return names;
  }

  const std::string run_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(DumpTest, WhatIsWrittenIsRead) {
  const Dump dump = NewDump(123, 1);
  const auto folder = WriteDump(run_, dump);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(*folder, run_ + "/dumps/step-000123-rank1");

  const auto read = ReadDump(*folder);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->state.ShortDebugString(), dump.state.ShortDebugString());
  ASSERT_EQ(read->batches.size(), 2);
  for (int part = 0; part < 2; ++part) {
    EXPECT_TRUE(at::equal(read->batches[part].images, dump.batches[part].images));
    EXPECT_TRUE(read->batches[part].images.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_TRUE(at::equal(read->batches[part].labels, dump.batches[part].labels));
    EXPECT_EQ(read->batches[part].indices, dump.batches[part].indices);
  }
  EXPECT_TRUE(at::equal(read->batches[0].soft_labels, dump.batches[0].soft_labels));
  EXPECT_TRUE(at::equal(read->batches[0].teacher_logits, dump.batches[0].teacher_logits));
  EXPECT_FALSE(read->batches[1].soft_labels.defined());
  EXPECT_FALSE(read->batches[1].teacher_logits.defined());
  EXPECT_TRUE(at::equal(read->model.Find("blocks.0.weight"), dump.model.Find("blocks.0.weight")));
  EXPECT_EQ(read->model.metadata.at("class_names"), "cat\ndog");
  EXPECT_TRUE(at::equal(read->objectives.Find("apl.head.weight"), dump.objectives.Find("apl.head.weight")));
}

TEST_F(DumpTest, TheReportSaysWhatAReaderWants) {
  const std::string folder = *WriteDump(run_, NewDump(123));
  const std::string report = *ReadFile(folder + "/report.txt");
  EXPECT_THAT(report, HasSubstr("Step 123 of rank 0 of 2: loss nan, gradient norm inf\n"
                                "the parameter blocks.0.weight is not finite\n"));
  EXPECT_THAT(report, HasSubstr("learning rate 0.001; 12.50 % of the training were over; precision BF16"));
  EXPECT_THAT(report, HasSubstr("graticule replay " + folder));
  EXPECT_THAT(report, AllOf(HasSubstr("part 0, 1: sample 17, dog/7.jpg, label 1\n"),
                            HasSubstr("part 1, 0: sample 18, dog/8.jpg, label 1\n")));
}

// Of gradients that are not finite at any scale.
TEST_F(DumpTest, ATinyLossScaleIsKept) {
  Dump dump = NewDump(40);
  dump.state.set_precision(Trainer::FP16);
  dump.state.set_loss(2.5);
  dump.state.set_loss_scale(0x1p-24);
  const std::string folder = *WriteDump(run_, dump);
  EXPECT_EQ(ReadDump(folder)->state.loss_scale(), 0x1p-24);
  EXPECT_THAT(*ReadFile(folder + "/report.txt"),
              AllOf(HasSubstr("loss 2.5, gradient norm inf\n"), HasSubstr("precision FP16; loss scale 5.96046e-08\n")));
}

TEST_F(DumpTest, TheFirstAndTheTwoNewestOfEachRankAreKept) {
  for (const int64_t step : {40, 50, 60, 70, 80}) {
    ASSERT_TRUE(WriteDump(run_, NewDump(step)).ok());
    if (step < 60) ASSERT_TRUE(WriteDump(run_, NewDump(step, 1)).ok());
  }
  EXPECT_THAT(Names(), UnorderedElementsAre("step-000040-rank0", "step-000070-rank0", "step-000080-rank0",
                                            "step-000040-rank1", "step-000050-rank1"));
}

TEST_F(DumpTest, TheSameStepIsWrittenAnew) {
  ASSERT_TRUE(WriteDump(run_, NewDump(40)).ok());
  Dump again = NewDump(40);
  again.objectives = {};
  const auto folder = WriteDump(run_, again);
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto read = ReadDump(*folder);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->objectives.tensors, IsEmpty());
  EXPECT_THAT(Names(), ElementsAre("step-000040-rank0"));
}

TEST_F(DumpTest, AFullDiskLeavesNoTrace) {
  ASSERT_TRUE(WriteDump(run_, NewDump(40)).ok());
  Dump large = NewDump(50);
  large.model.tensors.emplace_back("large", at::rand({1000}));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{.rlim_cur = 3000, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  const auto folder = WriteDump(run_, large);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(folder.status().message(), HasSubstr("step-000050-rank0.tmp/model.safetensors': File too large"));
  EXPECT_THAT(Names(), ElementsAre("step-000040-rank0"));
}

TEST_F(DumpTest, WhatIsNoDumpIsNamed) {
  const absl::Status none = ReadDump(run_).status();
  EXPECT_TRUE(absl::IsNotFound(none));
  EXPECT_THAT(none.message(), HasSubstr("is no dump: it has no dump.textproto"));

  const std::string folder = *WriteDump(run_, NewDump(40));
  ASSERT_TRUE(WriteFile(folder + "/dump.textproto", "step: 40\nrnak: 1").ok());
  EXPECT_THAT(ReadDump(folder).status().message(),
              AllOf(HasSubstr("dump.textproto' is damaged"), HasSubstr("line 2"), HasSubstr("rnak")));
  ASSERT_TRUE(WriteFile(folder + "/dump.textproto", "step: 40").ok());
  Safetensors batch = *ReadSafetensors(folder + "/batch.safetensors");
  std::erase_if(batch.tensors, [](const auto& entry) { return entry.first == "1.labels"; });
  ASSERT_TRUE(WriteSafetensors(folder + "/batch.safetensors", batch).ok());
  EXPECT_THAT(ReadDump(folder).status().message(),
              AllOf(HasSubstr("batch.safetensors' is damaged"), HasSubstr("1.labels")));
  fs::remove(folder + "/batch.safetensors");
  EXPECT_THAT(ReadDump(folder).status().message(), HasSubstr("batch.safetensors': No such file"));
}

}  // namespace
}  // namespace graticule
