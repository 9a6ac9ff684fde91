// `graticule replay`: a dumped step, computed again.
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "tests/program.h"
#include "trainer/guard/dump.h"
#include "trainer/parts.h"
#include "trainer/spec.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kStep = 12;  // the first one of the last epoch

// The number behind "NAME: " in what the program says of the step as it is computed now.
double Number(const std::string& out, const std::string& name) {
  const size_t now = out.find("now, ");
  const size_t place = out.find("\n" + name + ": ", now);
  if (now == std::string::npos || place == std::string::npos) return std::nan("");
  return std::atof(out.c_str() + place + name.size() + 3);
}

class ReplayTest : public testing::Test {
 protected:
  void SetUp() override { Train("run"); }

  // A run with a line for each step, and the dump of one of its steps.
  void Train(const std::string& name, const std::vector<std::string>& options = {}) {
    run_ = folder_ + "/" + name;
    dump_ = {};
    WriteText(folder_ + "/spec.textproto", TinySpec());
    std::vector<std::string> arguments = {"train", folder_ + "/spec.textproto", "--output=" + run_, "--set",
                                          "trainer.log_interval=1"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const ProgramResult trained = RunProgram(arguments);
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    const std::string checkpoint = run_ + "/checkpoints/step-0000" + std::to_string(kStep);
    dump_.model = *ReadSafetensors(checkpoint + "/model.safetensors");
    dump_.objectives = *ReadSafetensors(checkpoint + "/objectives.safetensors");

    const auto spec = Spec::Load(run_ + "/experiment.textproto");
    ASSERT_TRUE(spec.ok()) << spec.status();
    const auto data = BuildData(spec->experiment());
    ASSERT_TRUE(data.ok()) << data.status();
    const auto loader = data->TrainLoader(spec->experiment());
    loader->Start(/*epoch=*/3);
    for (int part = 0; part < AccumulationSteps(spec->experiment().trainer()); ++part) {
      dump_.batches.push_back(**loader->Next());
    }
    dump_.state.set_step(kStep);
    dump_.state.set_world_size(1);
    dump_.state.set_progress(0.75);
    dump_.state.set_precision(Trainer::FP32);
  }

  void Set(const std::string& parameter, double value) { dump_.model.Find(parameter).fill_(value); }

  ProgramResult Replay(const std::vector<std::string>& options = {}) {
    const auto folder = WriteDump(run_, dump_);
    EXPECT_TRUE(folder.ok()) << folder.status();
    std::vector<std::string> arguments = {"replay", *folder};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return RunProgram(arguments);
  }

  void ExpectAsInTraining(const ProgramResult& result) {
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("step 12 of rank 0 of 1: 16 images in 2 parts"));
    EXPECT_THAT(result.out, HasSubstr("\nall values are finite\n"));
    bool found = false;
    for (std::map<std::string, double> row : ReadMetrics(run_)) {
      if (row["step"] != kStep + 1 || !row.contains("train/loss")) continue;
      found = true;
      EXPECT_NEAR(Number(result.out, "loss"), row["train/loss"], 1e-5 * row["train/loss"]) << result.out;
      EXPECT_NEAR(Number(result.out, "gradient norm"), row["grad_norm"], 1e-5 * row["grad_norm"]) << result.out;
    }
    EXPECT_TRUE(found);
  }

  const std::string folder_ = FreshFolder("replay");
  std::string run_;
  Dump dump_;
};

// Drop path and the augmentations draw as they did.
TEST_F(ReplayTest, AStepIsComputedAsInTraining) { ExpectAsInTraining(Replay()); }

// Also one whose images are normalised otherwise.
TEST_F(ReplayTest, ATeacherSaysWhatItSaidInTraining) {
  const std::string teacher = run_;
  Train("student", {"--set", "teacher.spec=" + teacher, "--set", "task.distillation={ type: SOFT }", "--set",
                    "data.mean=[0.5, 0.5, 0.5]", "--set", "data.std=[0.5, 0.5, 0.5]"});
  ExpectAsInTraining(Replay());
}

TEST_F(ReplayTest, TheLayerThatOverflowsIsNamed) {
  Set("blocks.1.mlp.fc1.bias", 10);
  Set("blocks.1.mlp.fc2.weight", 3e38);
  dump_.state.set_loss(std::nan(""));
  dump_.state.set_cause("what training said");
  const ProgramResult result = Replay();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("in training, fp32:\nloss: nan\n"), HasSubstr("\nwhat training said\n")));
  EXPECT_THAT(result.out, AllOf(HasSubstr("now, fp32 on cpu:\nloss: nan\ngradient norm: nan\n"),
                                HasSubstr("came out of aten::addmm in blocks.1.mlp.fc2 (forward): "),
                                HasSubstr("gradients that are not finite: ")));
}

TEST_F(ReplayTest, AnotherPrecisionCanBeTried) {
  Set("blocks.1.mlp.fc2.weight", 1e5);
  dump_.state.set_precision(Trainer::FP16);
  const ProgramResult half = Replay();
  EXPECT_EQ(half.exit_code, 0) << half.err;
  EXPECT_THAT(half.out,
              AllOf(HasSubstr("now, fp16 on cpu:"), HasSubstr(" in blocks.1.mlp.fc2 (forward): 1024 infinite")));
  const ProgramResult single = Replay({"--precision=fp32"});
  EXPECT_EQ(single.exit_code, 0) << single.err;
  EXPECT_THAT(single.out, AllOf(HasSubstr("now, fp32 on cpu:"), HasSubstr("\nall values are finite\n")));
}

TEST_F(ReplayTest, WhatDoesNotFitIsAnError) {
  const ProgramResult none = RunProgram({"replay", run_});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.LastError(), HasSubstr("is no dump: it has no dump.textproto"));

  const ProgramResult size = Replay({"--set", "data.image_size=[20]"});
  EXPECT_EQ(size.exit_code, 1);
  EXPECT_THAT(size.LastError(), HasSubstr("the dump's images are 16×16, but data.image_size is 20×20"));

  const ProgramResult model = Replay({"--set", "backbone.depth=3"});
  EXPECT_EQ(model.exit_code, 1);
  EXPECT_THAT(model.LastError(), AllOf(HasSubstr("the dump's model"), HasSubstr("blocks.2.")));

  EXPECT_EQ(Replay({"--precision=fp8"}).exit_code, 2);
  EXPECT_EQ(Replay({"--spec=" + folder_ + "/none.textproto"}).exit_code, 2);
}

}  // namespace
}  // namespace graticule
