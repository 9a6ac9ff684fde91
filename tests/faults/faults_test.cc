// What goes wrong in the middle of a training.
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
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
  // Preloads calls that fail, as tests/faults/shim says.
  static ProgramOptions WithFailingCalls(const std::string& faults) {
    return {.environment = {{"LD_PRELOAD", Runfile("graticule/tests/faults/shim/fault_preload.so")},
                            {"GRATICULE_FAULT", faults}}};
  }
  // A copy of a run as it was when its newest checkpoint was that of a step.
  void CopyAsOfStep(const std::string& from, int64_t step, const std::string& to) const {
    fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    for (const auto& entry : fs::directory_iterator(to + "/checkpoints")) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("step-") || std::stoll(name.substr(5)) > step) fs::remove_all(entry.path());
    }
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
  const std::vector<std::string> data = {"--set", MakeImageFolder(folder_ + "/images", {"a", "b"}, 320)};
  const std::string gone = folder_ + "/images/train/a/7.png";
  for (const bool allowed : {true, false}) {
    if (!fs::exists(gone)) fs::copy_file(folder_ + "/images/train/a/8.png", gone);
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
    const ProgramResult result =
        RunProgram(TrainArguments("run", {"--set", "trainer.max_steps=20"}), WithFailingCalls(fault));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, AllOf(HasSubstr("cannot save the checkpoint of step 3"), HasSubstr(message)));
    ExpectSameEnd(whole, Run("run"));
  }
}

TEST_F(FaultsTest, MetricsThatCannotBeWrittenAreWrittenLater) {
  const std::vector<std::string> more = {"--set", "trainer.max_steps=60"};
  const std::string whole = Train("whole", more);
  const ProgramOptions full = WithFailingCalls("ENOSPC:write:metrics.csv:100:3;ENOSPC:write:tfevents:2000:3");
  const ProgramResult result = RunProgram(TrainArguments("run", more), full);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("metrics can't be written: "), HasSubstr("No space left on device"),
                                HasSubstr("metrics can be written again")));
  ExpectSameEnd(whole, Run("run"));

  std::vector<std::string> stop = more;
  stop.insert(stop.end(), {"--set", "trainer.on_save_error=STOP"});
  const ProgramResult stopped = RunProgram(TrainArguments("stopped", stop), full);
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_THAT(stopped.LastError(), HasSubstr("No space left on device"));
}

// A scheduler that ends a job gives it half a minute, however long a validation takes.
TEST_F(FaultsTest, AskedToStopInAValidationItDoesItAnewLater) {
  const std::vector<std::string> more = {"--set", "trainer.max_steps=40",      "--set", "trainer.checkpoint_steps=0",
                                         "--set", "data.dataset.val_size=6000"};
  const std::string whole = Train("whole", more);
  Program program(TrainArguments("stopped", more));
  ASSERT_TRUE(WaitUntil([&] { return program.out().find("step 40/40") != std::string::npos; }, 60)) << program.err();
  program.Signal(SIGTERM);
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("stopped by SIGTERM at step 40 of 40"), Not(HasSubstr("val/top1"))));
  EXPECT_EQ(NewestStep(Run("stopped")), 40);
  Train("stopped", more);
  ExpectSameEnd(whole, Run("stopped"));
}

TEST_F(FaultsTest, DataThatHasChangedIsNotTakenForWhatItWas) {
  std::vector<std::string> arguments = {"--set", MakeImageFolder(folder_ + "/images", {"a", "b"}, 320)};
  arguments.insert(arguments.end(), {"--set", "trainer.max_steps=6"});
  Train("run", arguments);  // 40 steps an epoch
  arguments.back() = "trainer.epochs=2";
  arguments.push_back("--allow-changed-spec");
  for (int i = 0; i < 160; ++i) fs::remove(folder_ + "/images/train/a/" + std::to_string(i) + ".png");
  const ProgramResult fewer = RunProgram(TrainArguments("run", arguments));
  EXPECT_EQ(fewer.exit_code, 0) << fewer.err;
  EXPECT_THAT(fewer.out, AllOf(HasSubstr("640 training images in batches of 16 until here, and 480 in batches of 16"),
                               HasSubstr("going on with epoch 1"), HasSubstr("step 35/36")));
  // The schedule is that of the epochs, whatever steps they had.
  const auto rows = ReadMetrics(Run("run"));
  EXPECT_LT(rows.back().contains("lr") ? rows.back().at("lr") : rows[rows.size() - 2].at("lr"), 1e-5);
  EXPECT_THAT(RunProgram(TrainArguments("run", arguments)).out, HasSubstr("the run was complete already"));

  fs::remove(folder_ + "/images/train/b/0.png");
  std::vector<std::string> same(arguments.begin(), arguments.end() - 1);
  const ProgramResult refused = RunProgram(TrainArguments("run", same));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.LastError(),
              AllOf(HasSubstr("480 training images"), HasSubstr("479"), HasSubstr("--allow-changed-spec")));

  for (const char* split : {"train", "val"}) {
    fs::rename(folder_ + "/images/" + split + "/b", folder_ + "/images/" + split + "/c");
  }
  const ProgramResult others = RunProgram(TrainArguments("run", arguments));
  EXPECT_EQ(others.exit_code, 1);
  EXPECT_THAT(others.LastError(), AllOf(HasSubstr("class 1 was 'b' and is 'c'"), HasSubstr("initial_checkpoint")));
}

TEST_F(FaultsTest, TheBestIsOfTheMetricThatIsChosen) {
  const std::vector<std::string> more = {"--set", "trainer.epochs=3", "--set", "trainer.best_metric=val_ema/loss"};
  const std::string run = Train("run", more);
  double best = 1e9;
  for (const auto& row : ReadMetrics(run)) {
    if (row.contains("val_ema/loss")) best = std::min(best, row.at("val_ema/loss"));
  }
  const std::string summary = ReadText(run + "/run.json");
  EXPECT_THAT(summary, HasSubstr("\"metric\": \"val_ema/loss\""));
  const size_t at = summary.find("\"value\": ", summary.find("val_ema/loss"));
  ASSERT_NE(at, std::string::npos);
  EXPECT_NEAR(std::stod(summary.substr(at + 9)), best, 1e-6);
  const ProgramResult wrong = RunProgram(TrainArguments("wrong", {"--set", "trainer.best_metric=val/top11"}));
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, AllOf(HasSubstr("trainer.best_metric"), HasSubstr("did you mean 'val/top1'")));
  EXPECT_FALSE(fs::exists(Run("wrong")));
}

// A summary that a killed process left is mended by the next, which has nothing else to do.
TEST_F(FaultsTest, ACompleteRunIsLeftAsItIsButForASummaryThatIsNot) {
  const std::vector<std::string> more = {"--set", "trainer.max_steps=20"};
  const std::string run = Train("run", more), summary = ReadText(run + "/run.json");
  EXPECT_THAT(RunProgram(TrainArguments("run", more)).out, HasSubstr("the run was complete already"));
  EXPECT_EQ(ReadText(run + "/run.json"), summary);
  std::string running = summary;
  running.replace(running.find("completed"), 9, "running");
  WriteText(run + "/run.json", running);
  const std::string spec = ReadText(run + "/experiment.textproto");
  EXPECT_EQ(RunProgram(TrainArguments("run", {"--set", "trainer.max_steps=20", "--set", "trainer.learning_rate=0.5",
                                              "--allow-changed-spec"}))
                .exit_code,
            0);
  EXPECT_THAT(ReadText(run + "/run.json"), HasSubstr("\"exit_reason\": \"completed\""));
  EXPECT_EQ(ReadText(run + "/experiment.textproto"), spec);
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
  CopyAsOfStep(whole, 12, Run("resumed"));
  const ProgramResult rest = RunProgram(TrainArguments("resumed", more));
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, AllOf(HasSubstr("fp16 autocast"), HasSubstr("resumed at step 12 of 30")));
  ExpectSameEnd(whole, Run("resumed"));
  EXPECT_THAT(ReadText(whole + "/checkpoints/last/state.textproto"), HasSubstr("loss_scale: 65536"));
  for (const auto& row : ReadMetrics(whole)) {
    if (row.contains("train/loss")) EXPECT_EQ(row.at("loss_scale"), 65536);
  }
}

// Of three numbers the order of their sum counts, so each process must sum up in the same one from its first step on.
TEST_F(FaultsTest, ThreeProcessesGoOnExactly) {
  const std::vector<std::string> more = {"--processes=3",
                                         "--set",
                                         "trainer.batch_size=12",
                                         "--set",
                                         "trainer.accumulation_steps=1",
                                         "--set",
                                         "trainer.keep_checkpoints=1000",
                                         "--set",
                                         "trainer.max_steps=30",
                                         "--set",
                                         "trainer.distributed.bucket_mebibytes=0.01"};
  const std::string whole = Train("whole", more);
  CopyAsOfStep(whole, 12, Run("resumed"));
  const ProgramResult rest = RunProgram(TrainArguments("resumed", more));
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, HasSubstr("resumed at step 12 of 30"));
  ExpectSameEnd(whole, Run("resumed"));
}

}  // namespace
}  // namespace graticule
