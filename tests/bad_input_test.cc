// What goes wrong for users: one clear error on the last line, a non-zero exit, and nothing lost that was there before.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "ATen/ops/randn.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "tests/program.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BadInputTest : public testing::Test {
 protected:
  std::string WriteSpec(const std::string& text) {
    WriteText(folder_ + "/spec.textproto", text);
    return folder_ + "/spec.textproto";
  }
  ProgramResult Train(const std::string& text, std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"train", WriteSpec(text), "--output=" + run_});
    return RunProgram(arguments);
  }
  static std::string Replace(std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }
  static int CountLines(const std::string& text, const std::string& with) {
    int count = 0;
    for (size_t at = 0; (at = text.find(with, at)) != std::string::npos; at += with.size()) ++count;
    return count;
  }

  std::string folder_ = FreshFolder("work");
  std::string run_ = folder_ + "/run";
};

TEST_F(BadInputTest, FiveMistakesAreFiveErrorsAndNoRunDirectory) {
  std::string text = TinySpec();
  text = Replace(text, "graticule.Mpvg", "graticule.Mpgv");           // an unknown plugin
  text = Replace(text, "num_heads: 2", "num_haeds: 2");               // an unknown field
  text = Replace(text, "epochs: 4", "epochs: \"four\"");              // a wrong type
  text = Replace(text, "patch_size: 4", "patch_size: 5");             // a wrong meaning, in a plugin's config
  text = Replace(text, "learning_rate: 0.001", "learning_rate: -1");  // a wrong meaning, in the trainer's
  const ProgramResult result = Train(text);
  EXPECT_EQ(result.exit_code, 2);
  const std::string at = folder_ + "/spec.textproto:";
  EXPECT_EQ(CountLines(result.err, at), 5) << result.err;
  EXPECT_THAT(result.err, HasSubstr(at + "6:"));
  EXPECT_THAT(result.err, AllOf(HasSubstr("graticule.Mpgv"), HasSubstr("did you mean 'graticule.Mpvg'?")));
  EXPECT_THAT(result.err, AllOf(HasSubstr("num_haeds"), HasSubstr("did you mean 'num_heads'?")));
  EXPECT_THAT(result.err, HasSubstr("trainer.epochs"));
  EXPECT_THAT(result.err, AllOf(HasSubstr("backbone.patch_size"), HasSubstr(at + "4:")));
  EXPECT_THAT(result.err, HasSubstr("trainer.learning_rate"));
  EXPECT_THAT(result.LastError(), HasSubstr("5 mistakes in"));
  EXPECT_FALSE(fs::exists(run_));
}

// Some transforms divide by it; and it hides no other mistake.
TEST_F(BadInputTest, AnImageSizeThatIsNoneIsAMistakeAmongOthers) {
  for (const std::string size : {"0", "-8", "[]", "[8, 8, 8]", "[16, 0]"}) {
    for (const char* command : {"check", "train", "show"}) {
      const ProgramResult result =
          RunProgram({command, WriteSpec(TinySpec()), "--set", "data.image_size=" + size, "--set",
                      "data.eval_transforms=[type.googleapis.com/graticule.Resize] {}", "--set",
                      "data.eval_transforms[1]=CenterCrop", "--set", "data.eval_transforms[0].crop_pct=3", "--set",
                      "trainer.epochs=0"});
      EXPECT_EQ(result.exit_code, 2) << command << " " << size << "\n" << result.err;
      EXPECT_THAT(result.err, AllOf(HasSubstr("data.image_size"), HasSubstr("data.eval_transforms[0].crop_pct")));
      if (std::string(command) != "show") EXPECT_THAT(result.err, HasSubstr("trainer.epochs"));
    }
  }
}

TEST_F(BadInputTest, ASpecOfNothingLacksAllAtOnce) {
  const ProgramResult result = RunProgram({"check", WriteSpec("name: \"empty\"\n")});
  EXPECT_EQ(result.exit_code, 2);
  for (const char* field : {"task", "backbone", "pooling", "data.dataset", "data.image_size", "trainer.epochs",
                            "trainer.batch_size", "trainer.learning_rate", "trainer.optimizer", "trainer.schedule"}) {
    EXPECT_EQ(CountLines(result.err, std::string(": ") + field + ": "), 1) << field;
  }
  EXPECT_THAT(result.LastError(), HasSubstr("10 mistakes in"));
}

TEST_F(BadInputTest, SlipsOfThePenOnTheCommandLineAreGuessed) {
  const std::string spec = WriteSpec(TinySpec());
  const auto error = [](const std::vector<std::string>& arguments) {
    const ProgramResult result = RunProgram(arguments);
    EXPECT_EQ(result.exit_code, 2);
    return result.LastError();
  };
  EXPECT_EQ(error({"trian", spec}), "graticule: there is no subcommand 'trian'; did you mean 'train'?");
  EXPECT_THAT(error({"--vresion"}), HasSubstr("did you mean --version?"));
  EXPECT_THAT(error({"train", spec, "--ouput=x"}), HasSubstr("--ouput=x; did you mean --output?"));
  EXPECT_THAT(error({"train", spec, "--set", "epochs=3"}), HasSubstr("did you mean 'trainer.epochs'?"));
  EXPECT_THAT(error({"train", spec, "--set", "trainer.optimizer=AdamX"}), HasSubstr("did you mean 'AdamW'?"));
  EXPECT_THAT(error({"train", spec, "--set", "trainer.epochs="}), HasSubstr("expected an integer, found nothing"));
  EXPECT_THAT(error({"bench", spec, "--precision=fp8"}), HasSubstr("must be one of bf16, fp16, fp32; found fp8"));
  EXPECT_THAT(error({"eval", spec}), HasSubstr("--checkpoint is required"));
  EXPECT_THAT(error({"eval", spec, "--checkpoint=none"}), HasSubstr("does not exist: none"));
  EXPECT_THAT(RunProgram({"bench", "--help"}).out, Not(HasSubstr("->")));
}

TEST_F(BadInputTest, CheckFindsTheSame) {
  EXPECT_EQ(RunProgram({"check", WriteSpec(TinySpec())}).exit_code, 0);
  const ProgramResult result = RunProgram({"check", WriteSpec(Replace(TinySpec(), "num_heads: 2", "num_heads: 3"))});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("backbone.num_heads"));
}

TEST_F(BadInputTest, OverridesAreCheckedLikeTheFile) {
  const ProgramResult result = Train(TinySpec(), {"--set", "backbone.dpeth=3"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("--set"), HasSubstr("did you mean 'depth'?")));
}

TEST_F(BadInputTest, AMissingSpecIsOneError) {
  const ProgramResult result = RunProgram({"train", folder_ + "/none.textproto"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("none.textproto"), HasSubstr("No such file")));
  EXPECT_EQ(CountLines(result.err, "\n"), 1);
}

TEST_F(BadInputTest, APatchThatDoesNotDivideNamesBothNumbers) {
  const ProgramResult result = Train(TinySpec(), {"--set", "backbone.patch_size=5"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("backbone.patch_size"), HasSubstr("5"), HasSubstr("16")));
}

TEST_F(BadInputTest, AFolderWithoutImagesIsAnErrorBeforeTraining) {
  const std::string dataset =
      "data.dataset=[type.googleapis.com/graticule.ImageFolder] { path: \"" + folder_ + "/images\" }";
  ProgramResult result = Train(TinySpec(), {"--set", dataset});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("data.dataset"), HasSubstr(folder_ + "/images")));
  fs::create_directories(folder_ + "/images/train/cat");
  fs::create_directories(folder_ + "/images/val/cat");
  result = Train(TinySpec(), {"--set", dataset});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("no images"));
  EXPECT_FALSE(fs::exists(run_));
}

TEST_F(BadInputTest, ABrokenImageAmongGoodOnesIsNamedAndSkipped) {
  const std::string dataset = MakeImageFolder(folder_ + "/images", {"a", "b"}, 16);
  const std::string broken = folder_ + "/images/train/a/3.png";
  WriteText(broken, ReadText(broken).substr(0, 60));
  const std::vector<std::string> arguments = {"--set", dataset, "--set", "trainer.epochs=1"};
  auto strict = arguments;
  strict.insert(strict.end(), {"--set", "data.max_broken=0"});
  const ProgramResult stopped = Train(TinySpec(), strict);
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_THAT(stopped.LastError(), AllOf(HasSubstr(broken), HasSubstr("max_broken")));

  run_ += "_tolerant";
  const ProgramResult result = Train(TinySpec(), arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr(broken));
  EXPECT_THAT(ReadText(run_ + "/log.txt"), HasSubstr(broken));
}

TEST_F(BadInputTest, BrokenValidationImagesDoNotCostTheEpoch) {
  const std::string dataset = MakeImageFolder(folder_ + "/images", {"a"}, 16);
  for (int i = 4; i < 8; ++i) WriteText(folder_ + "/images/val/a/" + std::to_string(i) + ".png", "");
  const ProgramResult result = Train(TinySpec(), {"--set", dataset});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("validation"), HasSubstr("max_broken")));
  EXPECT_TRUE(fs::exists(run_ + "/checkpoints/last/model.safetensors")) << result.err;
}

TEST_F(BadInputTest, DamagedAndForeignCheckpointsAreNamedErrors) {
  ASSERT_EQ(Train(TinySpec()).exit_code, 0);
  const std::string spec = run_ + "/experiment.textproto";
  const std::string good = run_ + "/checkpoints/last/model.safetensors";
  const std::string bytes = ReadText(good);
  const std::string bad = folder_ + "/bad.safetensors";
  const auto eval = [&](const std::string& checkpoint) {
    return RunProgram({"eval", spec, "--checkpoint=" + checkpoint});
  };

  EXPECT_EQ(eval(good).exit_code, 0);
  WriteText(bad, bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(eval(bad).LastError(), AllOf(HasSubstr(bad), HasSubstr("truncated")));
  EXPECT_EQ(eval(bad).exit_code, 1);
  EXPECT_THAT(eval(folder_ + "/none").LastError(), HasSubstr("none"));

  // A flipped bit in a step folder is found by its checksum.
  std::string flipped = bytes;
  flipped[bytes.size() - 5] ^= 1;
  const std::string step = fs::canonical(run_ + "/checkpoints/last").string();
  WriteText(step + "/model.safetensors", flipped);
  const ProgramResult result = eval(step);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("model.safetensors"), HasSubstr("SHA-256")));
  WriteText(step + "/model.safetensors", bytes);

  // Of another model: the tensors and both shapes are named.
  const ProgramResult other = RunProgram({"eval", spec, "--checkpoint=" + good, "--set", "backbone.embed_dim=32"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.LastError(), AllOf(HasSubstr("[16]"), HasSubstr("[32]")));
  const ProgramResult deeper = RunProgram({"eval", spec, "--checkpoint=" + good, "--set", "backbone.depth=3"});
  EXPECT_EQ(deeper.exit_code, 1);
  EXPECT_THAT(deeper.LastError(), HasSubstr("blocks.2."));
  // Of other classes: a classifier that was never trained measures nothing.
  const ProgramResult classes =
      RunProgram({"eval", spec, "--checkpoint=" + good, "--set", "data.dataset.num_classes=3"});
  EXPECT_EQ(classes.exit_code, 1);
  EXPECT_THAT(classes.LastError(), AllOf(HasSubstr("other classes"), HasSubstr("head.weight")));
}

TEST_F(BadInputTest, ADamagedNewestCheckpointIsSetAside) {
  ASSERT_EQ(Train(TinySpec()).exit_code, 0);
  const std::string step = fs::canonical(run_ + "/checkpoints/last").string();
  std::string bytes = ReadText(step + "/optimizer.safetensors");
  bytes.back() ^= 1;
  WriteText(step + "/optimizer.safetensors", bytes);
  const ProgramResult result = Train(TinySpec());
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("optimizer.safetensors"), HasSubstr("resumed at step 12 of 16")));
  EXPECT_TRUE(fs::exists(step + ".damaged"));
}

// A limit on the size of files stands in for a full disk: the write in the middle of a checkpoint fails.
TEST_F(BadInputTest, ADiskThatFillsWhileSavingLeavesTheLastCheckpointWhole) {
  ASSERT_EQ(Train(TinySpec(), {"--set", "trainer.epochs=2"}).exit_code, 0);
  const std::string before = ReadText(run_ + "/checkpoints/last/model.safetensors");
  ProgramOptions options{.file_size_limit = static_cast<int64_t>(before.size() / 2)};
  const ProgramResult result =
      RunProgram({"train", WriteSpec(TinySpec()), "--output=" + run_, "--allow-changed-spec"}, options);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), HasSubstr("File too large"));
  EXPECT_EQ(ReadText(run_ + "/checkpoints/last/model.safetensors"), before);
  const ProgramResult later = RunProgram({"train", WriteSpec(TinySpec()), "--output=" + run_, "--allow-changed-spec"});
  EXPECT_EQ(later.exit_code, 0) << later.err;
  EXPECT_THAT(later.out, HasSubstr("resumed at step 8 of 16"));
}

TEST_F(BadInputTest, AnOutputThatCannotBeWrittenIsOneError) {
  WriteText(folder_ + "/file", "");
  run_ = folder_ + "/file/run";
  const ProgramResult result = Train(TinySpec());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr(run_), HasSubstr("Not a directory")));
}

TEST_F(BadInputTest, PredictNamesWhatItCannotRead) {
  ASSERT_EQ(Train(TinySpec(), {"--set", "trainer.epochs=1"}).exit_code, 0);
  const std::string spec = run_ + "/experiment.textproto";
  const ProgramResult none = RunProgram({"predict", spec, "--checkpoint=" + run_});
  EXPECT_EQ(none.exit_code, 2);
  WriteText(folder_ + "/text.png", "no image");
  const std::string good = Runfile("graticule/tests/testdata/square.png");
  const ProgramResult mixed =
      RunProgram({"predict", spec, "--checkpoint=" + run_, "--images", good, folder_ + "/text.png"});
  EXPECT_EQ(mixed.exit_code, 1);
  EXPECT_THAT(mixed.err, HasSubstr("text.png"));
  EXPECT_EQ(CountLines(mixed.out, good + ","), 4);
  WriteText(folder_ + "/before.csv", "kept");
  const ProgramResult missing = RunProgram(
      {"predict", spec, "--checkpoint=" + run_, "--images", "none.png", "--output=" + folder_ + "/before.csv"});
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.LastError(), HasSubstr("none.png"));
  EXPECT_EQ(ReadText(folder_ + "/before.csv"), "kept");
  Safetensors wrong;
  wrong.tensors.emplace_back("images", at::randn({1, 3, 8, 8}));
  ASSERT_TRUE(WriteSafetensors(folder_ + "/in.safetensors", wrong).ok());
  const ProgramResult shape = RunProgram({"predict", spec, "--checkpoint=" + run_,
                                          "--tensors=" + folder_ + "/in.safetensors", "--output=" + folder_ + "/out"});
  EXPECT_EQ(shape.exit_code, 1);
  EXPECT_THAT(shape.LastError(), AllOf(HasSubstr("[B,3,16,16]"), HasSubstr("[1,3,8,8]")));
}

TEST_F(BadInputTest, ASecondProcessIntoTheSameDirectoryRefuses) {
  fs::create_directories(run_);
  const int lock = open((run_ + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  const ProgramResult result = Train(TinySpec());
  close(lock);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), HasSubstr("another process is training into " + run_));
  fs::remove(run_ + "/lock");
  EXPECT_TRUE(fs::is_empty(run_));
}

TEST_F(BadInputTest, SomebodyElsesFolderIsLeftAlone) {
  fs::create_directories(run_);
  WriteText(run_ + "/log.txt", "mine");
  WriteText(run_ + "/metrics.csv", "a,b");
  const ProgramResult result = Train(TinySpec());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr(run_), HasSubstr("log.txt, metrics.csv"), HasSubstr("--output=DIR")));
  EXPECT_EQ(ReadText(run_ + "/log.txt"), "mine");
  EXPECT_EQ(ReadText(run_ + "/metrics.csv"), "a,b");
  EXPECT_EQ(std::distance(fs::directory_iterator(run_), fs::directory_iterator()), 2);
}

TEST_F(BadInputTest, ASpecThatDoesNotFitTheCheckpointLeavesTheOldOne) {
  ASSERT_EQ(Train(TinySpec(), {"--set", "trainer.epochs=1"}).exit_code, 0);
  const std::string spec = ReadText(run_ + "/experiment.textproto");
  const ProgramResult result = Train(TinySpec(), {"--set", "backbone.embed_dim=32", "--allow-changed-spec"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), HasSubstr("[16]"));
  EXPECT_EQ(ReadText(run_ + "/experiment.textproto"), spec);
}

// Stopped in the middle of an epoch of four steps; then epochs have one step.
TEST_F(BadInputTest, EpochsOfAnotherLengthGoOnWithTheNextEpoch) {
  ASSERT_EQ(Train(TinySpec(), {"--set", "trainer.max_steps=6"}).exit_code, 0);
  const ProgramResult result =
      Train(TinySpec(), {"--set", "trainer.batch_size=64", "--set", "trainer.epochs=8", "--allow-changed-spec"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("going on with epoch 2"), HasSubstr("trained 6 steps")));
}

TEST_F(BadInputTest, ThreadsThatNoMachineHasAreAMistake) {
  const ProgramResult result = Train(TinySpec(), {"--set", "data.threads=1000000", "--set", "trainer.threads=1000000"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("data.threads"), HasSubstr("trainer.threads"), HasSubstr("1024")));
}

TEST_F(BadInputTest, ALossThatIsNoNumberStopsTheRunBeforeItIsSaved) {
  const ProgramResult result =
      Train(TinySpec(), {"--set", "trainer.learning_rate=1e38", "--set", "trainer.clip_norm=0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("is not finite"), HasSubstr("learning rate")));
  EXPECT_FALSE(fs::exists(run_ + "/checkpoints/last"));
}

TEST_F(BadInputTest, AnExpectationThatNothingMeetsIsAMistake) {
  const ProgramResult result =
      Train(TinySpec("expected { metric: \"val/top1\" min: 3 max: 2 }\nexpected { min: 1 }\n"));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("expected[0]: no value holds"), HasSubstr("expected[1]: names no metric")));
}

TEST_F(BadInputTest, AnExpectationThatIsMissedFailsTheRun) {
  const ProgramResult result =
      Train(TinySpec("expected { metric: \"val/top1\" min: 101 }\n"), {"--set", "trainer.epochs=1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("val/top1"), HasSubstr("missed")));
  EXPECT_TRUE(fs::exists(run_ + "/checkpoints/last/model.safetensors"));
}

}  // namespace
}  // namespace graticule
