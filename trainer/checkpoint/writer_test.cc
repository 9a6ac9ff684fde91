#include "trainer/checkpoint/writer.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ATen/Context.h"
#include "ATen/Parallel.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/rand.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faults/shim/fault_shim.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

// A checkpoint whose values tell the step.
Checkpoint NewCheckpoint(int64_t step, int64_t elements = 1000) {
  Checkpoint checkpoint;
  checkpoint.state.set_step(step);
  double value = static_cast<double>(step);
  for (const auto part : {&Checkpoint::model, &Checkpoint::objectives, &Checkpoint::ema, &Checkpoint::optimizer}) {
    (checkpoint.*part).tensors.emplace_back("weight", at::full({elements}, value, at::kFloat));
    value += 0.25;
  }
  checkpoint.model.metadata[kClassNamesKey] = "cat\ndog";
  return checkpoint;
}

void ExpectEqual(const Checkpoint& found, const Checkpoint& expected) {
  EXPECT_EQ(found.state.SerializeAsString(), expected.state.SerializeAsString());
  for (const auto part : {&Checkpoint::model, &Checkpoint::objectives, &Checkpoint::ema, &Checkpoint::optimizer}) {
    ASSERT_EQ((found.*part).tensors.size(), (expected.*part).tensors.size());
    for (const auto& [name, tensor] : (expected.*part).tensors) {
      const at::Tensor other = (found.*part).Find(name);
      ASSERT_TRUE(other.defined()) << name;
      EXPECT_EQ(other.scalar_type(), tensor.scalar_type()) << name;
      EXPECT_TRUE(at::equal(other, tensor.cpu())) << name;
    }
  }
  EXPECT_EQ(found.model.metadata, expected.model.metadata);
}

class CheckpointWriterTest : public testing::Test {
 protected:
  CheckpointWriterTest()
      : run_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(run_);
    fs::create_directories(run_);
  }
  ~CheckpointWriterTest() override { SetFaults(""); }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(run_ + "/checkpoints")) names.push_back(entry.path().filename());
    return names;
  }

  absl::StatusOr<Checkpoint> Load(int64_t step) const { return LoadCheckpoint(CheckpointFolder(run_, step)); }

  // Saves and waits; what became of it.
  static CheckpointWriter::Result Save(CheckpointWriter& writer, const Checkpoint& checkpoint,
                                       Retention retention = {}) {
    EXPECT_EQ(writer.Save(checkpoint, retention), absl::OkStatus());
    const absl::Status saved = writer.Wait();
    std::optional<CheckpointWriter::Result> result = writer.Finished();
    EXPECT_TRUE(result.has_value());
    EXPECT_EQ(result->saved, saved);
    EXPECT_FALSE(writer.Finished().has_value());
    return *result;
  }

  const std::string run_;
};

// Of every type, of sizes that are no multiple of what is copied at a time, and in several orders of memory.
Checkpoint ManyTensors(int64_t step) {
  Checkpoint checkpoint = NewCheckpoint(step);
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kByte}) {
    for (const int64_t size : {0, 1, 7, 1000, 300'000}) {
      checkpoint.optimizer.tensors.emplace_back(absl::StrCat(at::toString(type), size),
                                                at::arange(size + step, size + step + size).to(type));
    }
  }
  checkpoint.model.tensors.emplace_back("bool", at::rand({77'777}).round().to(at::kBool));
  checkpoint.model.tensors.emplace_back("scalar", at::full({}, 2.5 * step));
  const at::Tensor image = at::rand({5, 300, 701});
  checkpoint.model.tensors.emplace_back("transposed", image.transpose(0, 2));
  checkpoint.model.tensors.emplace_back("slice", image.slice(2, 3, 600));
  checkpoint.model.tensors.emplace_back("offset", image.flatten().slice(0, 1));
  return checkpoint;
}

Checkpoint Clone(const Checkpoint& checkpoint) {
  Checkpoint clone = checkpoint;
  for (const auto part : {&Checkpoint::model, &Checkpoint::objectives, &Checkpoint::ema, &Checkpoint::optimizer}) {
    for (auto& [name, tensor] : (clone.*part).tensors) tensor = tensor.clone();
  }
  return clone;
}

TEST_F(CheckpointWriterTest, WhatIsSavedIsWhatWasThereWhateverComesAfter) {
  CheckpointWriter writer(run_);
  for (int64_t step = 1; step <= 3; ++step) {
    const Checkpoint checkpoint = ManyTensors(step);
    const Checkpoint before = Clone(checkpoint);
    ASSERT_EQ(writer.Save(checkpoint, {}), absl::OkStatus());
    for (const auto part : {&Checkpoint::model, &Checkpoint::objectives, &Checkpoint::ema, &Checkpoint::optimizer}) {
      for (const auto& [name, tensor] : (checkpoint.*part).tensors) tensor.zero_();
    }
    ASSERT_EQ(writer.Wait(), absl::OkStatus());
    const auto loaded = Load(step);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    ExpectEqual(*loaded, before);
  }
}

TEST_F(CheckpointWriterTest, TensorsMayChangeTheirShapesAndNumber) {
  CheckpointWriter writer(run_);
  for (const int64_t size : {1000, 10, 2000}) {
    Checkpoint checkpoint = NewCheckpoint(size, size);
    if (size == 10) checkpoint.ema = {};
    if (size == 2000) checkpoint.optimizer.tensors.emplace_back("more", at::ones({3}, at::kLong));
    EXPECT_EQ(Save(writer, checkpoint).saved, absl::OkStatus());
    ExpectEqual(*Load(size), checkpoint);
  }
}

TEST_F(CheckpointWriterTest, ResultsComeInOrderWithTheirTimes) {
  CheckpointWriter writer(run_);
  EXPECT_EQ(writer.Wait(), absl::OkStatus());
  EXPECT_FALSE(writer.Finished().has_value());
  EXPECT_EQ(writer.stall_seconds(), 0);
  SetFaults("SLEEP500:fsync:/step-000001.tmp/model");
  const absl::Time start = absl::Now();
  ASSERT_EQ(writer.Save(NewCheckpoint(1), {}), absl::OkStatus());
  // It goes on while the disk is slow.
  EXPECT_LT(writer.stall_seconds(), 0.5);
  EXPECT_FALSE(writer.Finished().has_value());
  // But the next one has to wait.
  ASSERT_EQ(writer.Save(NewCheckpoint(2), {}), absl::OkStatus());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(500));
  EXPECT_GT(writer.stall_seconds(), 0.1);
  ASSERT_EQ(writer.Wait(), absl::OkStatus());
  const auto first = writer.Finished(), second = writer.Finished();
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_FALSE(writer.Finished().has_value());
  EXPECT_EQ(first->step, 1);
  EXPECT_EQ(second->step, 2);
  EXPECT_GE(first->write_seconds, 0.5);
  EXPECT_DOUBLE_EQ(first->stall_seconds + second->stall_seconds, writer.stall_seconds());
  EXPECT_THAT(first->ToString(), StartsWith("saved step 1 in "));
}

TEST_F(CheckpointWriterTest, RetentionIsKept) {
  CheckpointWriter writer(run_);
  for (int step = 1; step <= 7; ++step) {
    const CheckpointWriter::Result result = Save(writer, NewCheckpoint(step), {.keep = 2, .every = 3, .best = 1});
    EXPECT_EQ(result.saved, absl::OkStatus());
    EXPECT_EQ(result.pruned, absl::OkStatus());
  }
  EXPECT_THAT(Names(),
              UnorderedElementsAre("step-000001", "step-000003", "step-000006", "step-000007", "last", "best"));
  EXPECT_EQ(fs::read_symlink(run_ + "/checkpoints/best"), "step-000001");
}

TEST_F(CheckpointWriterTest, AnErrorCostsThatCheckpointAlone) {
  CheckpointWriter writer(run_);
  ASSERT_EQ(Save(writer, NewCheckpoint(1)).saved, absl::OkStatus());
  for (const char* fault : {"ENOSPC:write:/checkpoints:9000", "EIO:fsync:/optimizer", "EROFS:mkdir,open:/checkpoints",
                            "EIO:rename:/step-"}) {
    SCOPED_TRACE(fault);
    SetFaults(fault);
    const CheckpointWriter::Result result = Save(writer, NewCheckpoint(2), {.keep = 1});
    EXPECT_FALSE(result.saved.ok());
    EXPECT_THAT(result.ToString(), StartsWith("cannot save the checkpoint of step 2: "));
    // However often one asks.
    EXPECT_EQ(writer.Wait(), result.saved);
    EXPECT_THAT(Names(), UnorderedElementsAre("step-000001", "last"));
    ExpectEqual(*Load(1), NewCheckpoint(1));
  }
  SetFaults("");
  EXPECT_EQ(Save(writer, NewCheckpoint(3), {.keep = 1}).saved, absl::OkStatus());
  EXPECT_THAT(Names(), UnorderedElementsAre("step-000003", "last"));
  ExpectEqual(*Load(3), NewCheckpoint(3));
}

TEST_F(CheckpointWriterTest, WhatCannotBeRemovedCostsNothing) {
  CheckpointWriter writer(run_);
  ASSERT_EQ(Save(writer, NewCheckpoint(1)).saved, absl::OkStatus());
  SetFaults("EACCES:rename:step-000001");
  const CheckpointWriter::Result result = Save(writer, NewCheckpoint(2), {.keep = 1});
  EXPECT_EQ(result.saved, absl::OkStatus());
  EXPECT_THAT(result.ToString(), AllOf(StartsWith("saved step 2 in"), HasSubstr("not every old checkpoint could go"),
                                       HasSubstr("Permission denied")));
  ExpectEqual(*Load(2), NewCheckpoint(2));
}

TEST_F(CheckpointWriterTest, ItsEndWaitsForTheWrite) {
  SetFaults("SLEEP100:fsync:/model");
  {
    CheckpointWriter writer(run_);
    ASSERT_EQ(writer.Save(NewCheckpoint(1), {}), absl::OkStatus());
  }
  ExpectEqual(*Load(1), NewCheckpoint(1));
}

TEST_F(CheckpointWriterTest, TensorsOfADeviceAreCopiedInItsOrder) {
  if (!at::hasCUDA()) GTEST_SKIP() << "this machine has no CUDA device";
  CheckpointWriter writer(run_);
  for (int64_t step = 1; step <= 3; ++step) {
    Checkpoint checkpoint = NewCheckpoint(step, 10'000'000);
    const Checkpoint before = Clone(checkpoint);
    for (const auto part : {&Checkpoint::model, &Checkpoint::ema, &Checkpoint::optimizer}) {
      for (auto& [name, tensor] : (checkpoint.*part).tensors) tensor = tensor.to(at::kCUDA);
    }
    ASSERT_EQ(writer.Save(checkpoint, {}), absl::OkStatus());
    for (const auto& [name, tensor] : checkpoint.optimizer.tensors) tensor.zero_();
    checkpoint = {};
    ASSERT_EQ(writer.Wait(), absl::OkStatus());
    ExpectEqual(*Load(step), before);
  }
}

// Saves one step after the other, and writes each that is on disk to the pipe, until it is killed.
[[noreturn]] void SaveForever(const std::string& run, int64_t step, int pipe) {
  // Without the disk's time there are more of the moments in which something happens.
  SetFaults("SKIP:fsync:/");
  CheckpointWriter writer(run);
  while (true) {
    if (!writer.Save(NewCheckpoint(++step, 50'000), {.keep = 2, .every = 10}).ok()) _exit(1);
    // What a training does between two saves.
    if (step % 3 == 0 && !writer.Wait().ok()) _exit(1);
    while (const auto result = writer.Finished()) {
      if (!result->saved.ok() || !result->pruned.ok()) _exit(1);
      if (write(pipe, &result->step, sizeof(result->step)) != sizeof(result->step)) _exit(1);
    }
  }
}

TEST_F(CheckpointWriterTest, AKillAtAnyTimeLosesNothingThatWasSaved) {
  // A child of fork has no threads of OpenMP's.
  at::set_num_threads(1);
  std::mt19937 random(7);
  int64_t newest = 0;
  for (int kills = 0; kills < 25; ++kills) {
    SCOPED_TRACE(absl::StrCat("kill ", kills));
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) SaveForever(run_, newest, ends[1]);
    close(ends[1]);
    absl::SleepFor(absl::Microseconds(std::uniform_int_distribution(3'000, 60'000)(random)));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a save failed";
    int64_t saved = newest, step;
    while (read(ends[0], &step, sizeof(step)) == sizeof(step)) saved = step;
    close(ends[0]);

    const auto found = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
    ASSERT_TRUE(found.ok()) << found.status();
    if (!found->has_value()) {
      ASSERT_EQ(saved, 0);
      continue;
    }
    newest = (*found)->state.step();
    EXPECT_GE(newest, saved);
    // The next one may have been whole before it could be said.
    EXPECT_LE(newest, saved + 3);
    ExpectEqual(**found, NewCheckpoint(newest, 50'000));
    EXPECT_TRUE(ReadWeights(run_, true).ok());
  }
  EXPECT_GT(newest, 10);
  for (int64_t step = 10; step < newest; step += 10) EXPECT_TRUE(Load(step).ok()) << step;
}

}  // namespace
}  // namespace graticule
