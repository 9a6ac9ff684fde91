// What goes wrong in the middle of a training.
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faults/runs.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class FaultsTest : public FaultTest {
 protected:
  static std::string Fault(const std::string& fields) {
    return "objectives=objective { [type.googleapis.com/graticule_test.FaultObjective] { " + fields + " } }";
  }
  const ProgramOptions with_faults_{.binary = "graticule/tests/faults/graticule_with_faults"};
};

// Each damage of the newest checkpoint is named, the checkpoint set aside, and the one before it used.
TEST_F(FaultsTest, ADamagedCheckpointCostsTheStepsSinceTheOneBefore) {
  const std::string whole = Train("whole", {"--set", "trainer.max_steps=30"});
  const auto cut = [](const std::string& path) { fs::resize_file(path, fs::file_size(path) / 2); };
  const auto flip = [](const std::string& path) {
    std::string bytes = ReadText(path);
    bytes[bytes.size() / 2] ^= 1;
    WriteText(path, bytes);
  };
  const auto remove = [](const std::string& path) { fs::remove(path); };
  const std::vector<std::tuple<std::string, std::string, std::function<void(const std::string&)>>> damages = {
      {"model.safetensors", "model.safetensors", cut},   {"optimizer.safetensors", "optimizer.safetensors", flip},
      {"ema.safetensors", "ema.safetensors", remove},    {"state.textproto", "state.textproto", cut},
      {"manifest.textproto", "manifest.textproto", cut}, {"manifest.textproto", "manifest.textproto", remove},
  };
  for (const auto& [file, name, damage] : damages) {
    fs::remove_all(Run("damaged"));
    fs::copy(whole, Run("damaged"), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    damage(Run("damaged") + "/checkpoints/step-000030/" + file);
    const ProgramResult result = RunProgram(TrainArguments("damaged", {"--set", "trainer.max_steps=30"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out,
                AllOf(HasSubstr(name), HasSubstr("step-000030.damaged"), HasSubstr("resumed at step 27 of 30")));
    ExpectSameEnd(whole, Run("damaged"));
  }
}

TEST_F(FaultsTest, NumbersThatAreNoneStopTheRunWithTheirCause) {
  const ProgramResult result = RunProgram(TrainArguments("run", {"--set", Fault("nan_at_call: 11")}), with_faults_);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("step 5 is not finite"), HasSubstr("loss nan"),
                                        HasSubstr("learning rate"), HasSubstr("replay")));
  EXPECT_EQ(NewestStep(Run("run")), 3);
  const std::string report = ReadText(Run("run") + "/dumps/step-000005-rank0/report.txt");
  EXPECT_THAT(report, AllOf(HasSubstr("Step 5"), HasSubstr("synthetic/train[")));
  EXPECT_THAT(ReadText(Run("run") + "/run.json"), HasSubstr("step 5 is not finite"));
  // Without the fault it goes on from the last good step.
  const ProgramResult rest =
      RunProgram(TrainArguments("run", {"--set", Fault(""), "--allow-changed-spec", "--set", "trainer.max_steps=20"}),
                 with_faults_);
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, HasSubstr("resumed at step 3"));
}

TEST_F(FaultsTest, OrCostTheRunAStep) {
  const std::vector<std::string> skip = {"--set", "trainer.guard.on_non_finite=SKIP", "--set", "trainer.max_steps=20"};
  std::vector<std::string> arguments = skip;
  // Two calls a step, and two when it is done again to find the cause.
  arguments.insert(arguments.end(), {"--set", Fault("nan_at_call: 11 calls: 8")});
  const ProgramResult result = RunProgram(TrainArguments("run", arguments), with_faults_);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("skipped: step 5 is not finite"), HasSubstr("skipped: step 6 is not finite")));
  const auto rows = ReadMetrics(Run("run"));
  for (const auto& row : rows) {
    for (const auto& [name, value] : row) EXPECT_TRUE(std::isfinite(value)) << name;
  }
  double skipped = 0;
  for (const auto& row : rows) skipped = row.count("skipped_steps") ? row.at("skipped_steps") : skipped;
  EXPECT_EQ(skipped, 2);
  EXPECT_THAT(ReadText(Run("run") + "/checkpoints/last/state.textproto"), HasSubstr("skipped_steps: 2"));

  arguments = skip;
  arguments.insert(arguments.end(),
                   {"--set", Fault("nan_at_call: 11 calls: 1000"), "--set", "trainer.guard.max_skipped=3"});
  const ProgramResult lost = RunProgram(TrainArguments("lost", arguments), with_faults_);
  EXPECT_EQ(lost.exit_code, 1);
  EXPECT_THAT(lost.LastError(), AllOf(HasSubstr("step 7 is not finite"), HasSubstr("3 steps one after the other")));
}

TEST_F(FaultsTest, ATrainingThatHangsEndsWithTheStacksOfItsThreads) {
  Program program(TrainArguments("run", {"--set", Fault("sleep_at_call: 11 sleep_seconds: 300"), "--set",
                                         "trainer.guard.stall_minutes=0.05"}),
                  with_faults_);
  ASSERT_TRUE(WaitUntil([&] { return !program.running(); }, 60));
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 1);
  const std::string log = ReadText(Run("run") + "/log.txt");
  EXPECT_THAT(log, AllOf(HasSubstr("FaultObjectiveImpl::Forward"), HasSubstr("Training::")));
  EXPECT_THAT(result.LastError(), HasSubstr("log.txt"));
}

TEST_F(FaultsTest, AFileThatDisappearsIsNamedAndAllowedForOrNot) {
  const std::string image = Runfile("graticule/tests/testdata/square.png");
  for (const char* split : {"train", "val"}) {
    for (const char* name : {"a", "b"}) {
      const std::string class_folder = folder_ + "/images/" + split + "/" + name;
      fs::create_directories(class_folder);
      for (int i = 0; i < 320; ++i) fs::copy_file(image, class_folder + "/" + std::to_string(i) + ".png");
    }
  }
  const std::string gone = folder_ + "/images/train/a/7.png";
  const std::vector<std::string> data = {
      "--set", "data.dataset=[type.googleapis.com/graticule.ImageFolder] { path: \"" + folder_ + "/images\" }"};
  for (const bool allowed : {true, false}) {
    if (!fs::exists(gone)) fs::copy_file(image, gone);
    std::vector<std::string> arguments = data;
    arguments.insert(arguments.end(), {"--set", allowed ? "data.max_broken=0.01" : "data.max_broken=0"});
    Program program(TrainArguments(allowed ? "allowed" : "strict", arguments));
    ASSERT_TRUE(WaitUntil([&] { return program.out().find("step 7/") != std::string::npos; }, 60)) << program.err();
    fs::remove(gone);
    const ProgramResult result = program.Wait();
    EXPECT_EQ(result.exit_code, allowed ? 0 : 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr(gone));
    EXPECT_THAT(result.err, HasSubstr("No such file"));
  }
}

TEST_F(FaultsTest, ASecondTrainingIntoTheSameDirectoryRefuses) {
  Program first(TrainArguments("run"));
  ASSERT_TRUE(WaitUntil([&] { return first.out().find("step 7/") != std::string::npos; }, 60)) << first.err();
  const ProgramResult second = RunProgram(TrainArguments("run"));
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.LastError(), HasSubstr("another process is training into " + Run("run")));
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait().exit_code, 0);
}

// A limit on the size of files stands in for a full disk.
TEST_F(FaultsTest, ASaveThatFailsCostsTheRunNothingOrEndsIt) {
  const std::string before = Train("run", {"--set", "trainer.max_steps=20"});
  const std::string model = ReadText(before + "/checkpoints/last/model.safetensors");
  const ProgramOptions full{.file_size_limit = static_cast<int64_t>(model.size() / 2)};
  const std::vector<std::string> more = {"--set", "trainer.max_steps=40", "--allow-changed-spec"};

  std::vector<std::string> stop = more;
  stop.insert(stop.end(), {"--set", "trainer.on_save_error=STOP"});
  const ProgramResult stopped = RunProgram(TrainArguments("run", stop), full);
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_THAT(stopped.LastError(), AllOf(HasSubstr("File too large"), HasSubstr("cannot save the checkpoint of step")));
  EXPECT_THAT(stopped.out, Not(HasSubstr("step 35/")));

  const ProgramResult went_on = RunProgram(TrainArguments("run", more), full);
  EXPECT_EQ(went_on.exit_code, 1);
  EXPECT_THAT(went_on.out, AllOf(HasSubstr("File too large"), HasSubstr("step 35/")));
  EXPECT_THAT(went_on.LastError(), HasSubstr("cannot save the checkpoint of step 40"));
  EXPECT_EQ(ReadText(before + "/checkpoints/last/model.safetensors"), model);
  EXPECT_EQ(NewestStep(before), 20);

  const ProgramResult later = RunProgram(TrainArguments("run", more));
  EXPECT_EQ(later.exit_code, 0) << later.err;
  EXPECT_THAT(later.out, HasSubstr("resumed at step 20 of 40"));
}

// The disk fails in the first saves, each time in another way, and is well again later.
TEST_F(FaultsTest, ADiskThatFailsForAWhileCostsTheSavesOfThatWhile) {
  const std::string whole = Train("whole", {"--set", "trainer.max_steps=20"});
  const std::vector<std::pair<std::string, std::string>> faults = {
      {"ENOSPC:write:/checkpoints/:0:2", "No space left on device"},
      {"EIO:fsync:/checkpoints/:0:2", "Input/output error"},
      {"EROFS:open,rename,mkdir,symlink:/checkpoints:0:2", "Read-only file system"}};
  for (const auto& [fault, message] : faults) {
    fs::remove_all(Run("run"));
    const ProgramOptions options{
        .environment = {{"LD_PRELOAD", Runfile("graticule/tests/faults/shim/fault_preload.so")},
                        {"GRATICULE_FAULT", fault}}};
    const ProgramResult result = RunProgram(TrainArguments("run", {"--set", "trainer.max_steps=20"}), options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, AllOf(HasSubstr("cannot save the checkpoint of step 3"), HasSubstr(message)));
    ExpectSameEnd(whole, Run("run"));
  }
}

TEST_F(FaultsTest, CheckpointsComeByMinutesTooAndEveryNthStays) {
  const std::string run = Train("run", {"--set", "trainer.checkpoint_minutes=0.001", "--set",
                                        "trainer.checkpoint_steps=0", "--set", "trainer.checkpoint_interval=100",
                                        "--set", "trainer.eval_interval=100", "--set", "trainer.log_interval=100"});
  const std::string log = ReadText(run + "/log.txt");
  int saves = 0;
  for (size_t at = 0; (at = log.find("saved step", at)) != std::string::npos; ++at) ++saves;
  EXPECT_GT(saves, 2) << log;

  const std::string other =
      Train("other", {"--set", "trainer.keep_every_steps=9", "--set", "trainer.keep_checkpoints=1", "--set",
                      "trainer.max_steps=30", "--set", "trainer.eval_interval=100"});
  for (int step = 3; step <= 30; step += 3) {
    const std::string folder = other + "/checkpoints/step-0000" + (step < 10 ? "0" : "") + std::to_string(step);
    EXPECT_EQ(fs::exists(folder), step % 9 == 0 || step == 30) << folder;
  }
}

// The state of half precision's loss scale is part of what a run goes on from; layers that are computed twice draw
// once.
TEST_F(FaultsTest, HalfPrecisionWithCheckpointedActivationsGoesOnExactly) {
  const std::vector<std::string> more = {
      "--set", "trainer.precision=FP16",        "--set", "trainer.activation_checkpointing=true",
      "--set", "trainer.keep_checkpoints=1000", "--set", "trainer.max_steps=30"};
  const std::string whole = Train("whole", more);
  fs::copy(whole, Run("resumed"), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  for (const auto& entry : fs::directory_iterator(Run("resumed") + "/checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name == "last" || name > "step-000012") fs::remove_all(entry.path());
  }
  const ProgramResult rest = RunProgram(TrainArguments("resumed", more));
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, AllOf(HasSubstr("fp16 autocast"), HasSubstr("resumed at step 12 of 30")));
  ExpectSameEnd(whole, Run("resumed"));
  EXPECT_THAT(ReadText(whole + "/checkpoints/last/state.textproto"), HasSubstr("loss_scale: 65536"));
  for (const auto& row : ReadMetrics(whole)) {
    if (row.contains("train/loss")) EXPECT_EQ(row.at("loss_scale"), 65536);
  }
}

}  // namespace
}  // namespace graticule
