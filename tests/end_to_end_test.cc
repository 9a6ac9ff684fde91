// The program from the outside: what it trains, writes and prints.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "ATen/ops/equal.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/randn.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "nn/safetensors.h"
#include "tests/program.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

Safetensors ReadTensors(const std::string& path) {
  auto contents = ReadSafetensors(path);
  EXPECT_TRUE(contents.ok()) << contents.status();
  return contents.ok() ? *std::move(contents) : Safetensors();
}

void ExpectSameTensors(const std::string& a, const std::string& b) {
  const Safetensors x = ReadTensors(a), y = ReadTensors(b);
  ASSERT_EQ(x.tensors.size(), y.tensors.size());
  for (const auto& [name, tensor] : x.tensors) EXPECT_TRUE(at::equal(tensor, y.Find(name))) << a << ": " << name;
}

class EndToEndTest : public testing::Test {
 protected:
  std::string WriteSpec(const std::string& text, const std::string& name = "spec.textproto") {
    WriteText(folder_ + "/" + name, text);
    return folder_ + "/" + name;
  }
  // Trains TinySpec into `name`, and must succeed.
  std::string TrainTiny(const std::string& name, std::vector<std::string> arguments = {}) {
    const std::string run = folder_ + "/" + name;
    arguments.insert(arguments.begin(), {"train", WriteSpec(TinySpec()), "--output=" + run});
    const ProgramResult result = RunProgram(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    out_ = result.out;
    return run;
  }

  std::string folder_ = FreshFolder("work");
  std::string out_;
};

TEST_F(EndToEndTest, TrainingLeavesARunDirectory) {
  const std::string run = TrainTiny("run");
  for (const char* file : {"experiment.textproto", "metrics.csv", "log.txt", "checkpoints/last/model.safetensors",
                           "checkpoints/last/ema.safetensors", "checkpoints/last/optimizer.safetensors",
                           "checkpoints/last/objectives.safetensors", "checkpoints/last/state.textproto"}) {
    EXPECT_TRUE(fs::exists(run + "/" + file)) << file;
  }
  bool has_events = false;
  for (const auto& entry : fs::directory_iterator(run)) {
    has_events |= entry.path().filename().string().starts_with("events.out.tfevents");
  }
  EXPECT_TRUE(has_events);
  const std::vector<std::string> header = Lines(ReadText(run + "/metrics.csv"));
  EXPECT_THAT(header[0],
              testing::StartsWith("step,epoch,train/loss,train/apl/loss,train/apl/accuracy,val/top1,val/top5,lr,"
                                  "images_per_second"));
  const auto rows = ReadMetrics(run);
  EXPECT_EQ(rows.back().at("step"), 16);
  EXPECT_EQ(rows.back().at("epoch"), 4);
  int validations = 0;
  for (const auto& row : rows) validations += row.count("val/top1") && row.count("val_ema/top1");
  EXPECT_EQ(validations, 4);
  EXPECT_THAT(out_, AllOf(HasSubstr("trained 16 steps"), HasSubstr(run), HasSubstr("graticule eval")));
  EXPECT_THAT(ReadText(run + "/log.txt"), HasSubstr("trained 16 steps"));
}

TEST_F(EndToEndTest, TheResolvedSpecTrainsTheSameModel) {
  const std::string first = TrainTiny("first", {"--set", "trainer.epochs=2", "--set", "backbone.depth=1"});
  const std::string second = folder_ + "/second";
  const ProgramResult result = RunProgram({"train", first + "/experiment.textproto", "--output=" + second});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(ReadText(first + "/experiment.textproto"), ReadText(second + "/experiment.textproto"));
  ExpectSameTensors(first + "/checkpoints/last/model.safetensors", second + "/checkpoints/last/model.safetensors");
}

TEST_F(EndToEndTest, AResumedRunEndsAsOneThatNeverStopped) {
  const std::string whole = TrainTiny("whole");
  const ProgramResult other =
      RunProgram({"train", WriteSpec(TinySpec()), "--output=" + whole, "--set", "trainer.max_steps=8"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.LastError(), AllOf(HasSubstr("another spec: trainer.max_steps was not set and is 8"),
                                       HasSubstr("--allow-changed-spec")));

  // What a crash in the third of the four epochs leaves.
  const std::string resumed = folder_ + "/resumed";
  TrainTiny("resumed", {"--set", "trainer.keep_checkpoints=10"});
  for (const auto& entry : fs::directory_iterator(resumed + "/checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name == "last" || name > "step-000008") fs::remove_all(entry.path());
  }
  const ProgramResult rest =
      RunProgram({"train", WriteSpec(TinySpec()), "--output=" + resumed, "--set", "trainer.keep_checkpoints=10"});
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, HasSubstr("resumed at step 8 of 16"));
  ExpectSameEnd(whole, resumed);
}

TEST_F(EndToEndTest, Bf16TrainsAsFp32DoesAndKeepsFp32Weights) {
  const std::vector<std::string> every_step = {"--set", "trainer.log_interval=1"};
  const std::string fp32 = TrainTiny("fp32", every_step);
  std::vector<std::string> arguments = every_step;
  arguments.insert(arguments.end(), {"--set", "trainer.precision=BF16"});
  const std::string bf16 = TrainTiny("bf16", arguments);
  EXPECT_THAT(out_, HasSubstr("bf16 autocast"));
  const auto expected = ReadMetrics(fp32), found = ReadMetrics(bf16);
  ASSERT_EQ(expected.size(), found.size());
  int losses = 0, different = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    for (const char* name : {"train/loss", "train/apl/loss", "val/loss", "val_ema/loss"}) {
      ASSERT_EQ(expected[i].count(name), found[i].count(name)) << name;
      if (!expected[i].count(name)) continue;
      const double loss = expected[i].at(name);
      EXPECT_NEAR(found[i].at(name), loss, 0.05 * loss) << name << " at step " << expected[i].at("step");
      ++losses;
      different += found[i].at(name) != loss;
    }
  }
  // 16 steps with two losses and 4 validations of two, and not in fp32 by mistake.
  EXPECT_EQ(losses, 40);
  EXPECT_GT(different, 20);
  for (const char* file : {"model", "ema", "optimizer", "objectives"}) {
    const Safetensors contents = ReadTensors(bf16 + "/checkpoints/last/" + file + ".safetensors");
    EXPECT_FALSE(contents.tensors.empty());
    for (const auto& [name, tensor] : contents.tensors)
      EXPECT_EQ(tensor.scalar_type(), at::kFloat) << file << " " << name;
  }
}

TEST_F(EndToEndTest, ARunIsSummarisedForProgramsAndTracedWhereAsked) {
  const std::string run = TrainTiny("run", {"--profile=2:3"});
  const auto summary = nlohmann::json::parse(ReadText(run + "/run.json"));
  EXPECT_EQ(summary.at("exit_reason"), "completed");
  EXPECT_EQ(summary.at("step"), 16);
  EXPECT_EQ(summary.at("images_seen"), 256);
  EXPECT_EQ(summary.at("best").at("metric"), "val/top1");
  EXPECT_NEAR(summary.at("last").at("val/top1"), ReadMetrics(run).back().at("val/top1"), 1e-6);
  EXPECT_THAT(out_, HasSubstr("trace-rank0-steps-2-3.json"));
  std::set<std::string> names;
  const auto trace = nlohmann::json::parse(ReadText(run + "/trace-rank0-steps-2-3.json"));
  for (const auto& event : trace.at("traceEvents")) {
    if (event.contains("name")) names.insert(event.at("name").get<std::string>());
  }
  for (const char* name : {"step 2", "step 3", "data", "forward", "backward", "optimizer", "aten::addmm"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  const ProgramResult wrong = RunProgram({"train", WriteSpec(TinySpec()), "--profile=3:2"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.LastError(), HasSubstr("--profile"));
}

TEST_F(EndToEndTest, AStudentLearnsFromATeacher) {
  const std::string teacher = TrainTiny("teacher");
  const std::string student = TrainTiny("student", {"--set", "teacher.spec=" + teacher, "--set",
                                                    "task.distillation={ type: SOFT }", "--set", "backbone.depth=1"});
  const auto rows = ReadMetrics(student);
  EXPECT_TRUE(rows[0].contains("train/distillation/loss"));
  EXPECT_TRUE(rows[0].contains("train/distillation/agreement"));
  const ProgramResult none = RunProgram({"check", WriteSpec(TinySpec()), "--set", "task.distillation={ type: SOFT }"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("teacher: must be given"));
  const ProgramResult missing = RunProgram({"check", WriteSpec(TinySpec()), "--set", "task.distillation={ type: SOFT }",
                                            "--set", "teacher.spec=" + folder_ + "/none"});
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("teacher.spec"), HasSubstr("teacher.checkpoint"), HasSubstr("none")));
}

TEST_F(EndToEndTest, AFinishedRunSaysSo) {
  const std::string run = TrainTiny("run");
  const std::string metrics = ReadText(run + "/metrics.csv");
  TrainTiny("run");
  EXPECT_THAT(out_, HasSubstr("complete already"));
  EXPECT_EQ(ReadText(run + "/metrics.csv"), metrics);
}

TEST_F(EndToEndTest, ARunDirectoryStandsForTheRun) {
  const std::string run = TrainTiny("run", {"--set", "trainer.max_steps=6"});
  const ProgramResult again = RunProgram({"train", run + "/"}, {.directory = folder_});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("complete already"));
  EXPECT_FALSE(fs::exists(folder_ + "/runs"));
  const ProgramResult copied = RunProgram({"train", run, "--output=" + folder_ + "/copy"});
  EXPECT_EQ(copied.exit_code, 0) << copied.err;
  EXPECT_THAT(copied.out, HasSubstr("trained 6 steps"));
  EXPECT_EQ(RunProgram({"eval", run}).out, RunProgram({"eval", run, "--checkpoint=" + run}).out);
  const std::string image = Runfile("graticule/tests/testdata/square.png");
  EXPECT_EQ(RunProgram({"predict", run, "--images", image}).exit_code, 0);
}

TEST_F(EndToEndTest, AnotherSpecIsNoticedAndAnotherMachineIsNone) {
  const std::string run = TrainTiny("run", {"--set", "trainer.epochs=1"});
  // As a copy leaves it that does not take links.
  fs::remove(run + "/checkpoints/last");
  const std::string spec = WriteSpec(TinySpec("expected { metric: \"val/top1\" max: 100 }\n"));
  const std::vector<std::string> elsewhere = {"train",
                                              spec,
                                              "--output=" + run,
                                              "--set",
                                              "trainer.epochs=1",
                                              "--set",
                                              "trainer.threads=2",
                                              "--set",
                                              "data.threads=1",
                                              "--set",
                                              "trainer.log_interval=1",
                                              "--set",
                                              "name=other"};
  const ProgramResult same = RunProgram(elsewhere);
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr("complete already"));
  // It says how the run was trained, and nothing has been.
  EXPECT_THAT(ReadText(run + "/experiment.textproto"), HasSubstr("name: \"tiny\""));
  const ProgramResult other = RunProgram({"train", spec, "--output=" + run, "--set", "backbone.depth=3", "--set",
                                          "pooling=ClassToken", "--set", "trainer.threads=2"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.LastError(),
              AllOf(HasSubstr("backbone.depth was 2 and is 3"), HasSubstr("trainer.epochs was 1 and is 4"),
                    HasSubstr("pooling was graticule.Mpvg and is graticule.ClassToken"), Not(HasSubstr("threads"))));
}

TEST_F(EndToEndTest, ARunGoesOnWithoutTheCheckpointItStartedFrom) {
  const std::string first = TrainTiny("first", {"--set", "trainer.max_steps=1"});
  const std::string start = "trainer.initial_checkpoint=" + first;
  const std::string run = TrainTiny("run", {"--set", start, "--set", "trainer.max_steps=2"});
  fs::remove_all(first);
  const std::vector<std::string> arguments = {"--set", start, "--set", "trainer.max_steps=2"};
  TrainTiny("run", arguments);
  EXPECT_THAT(out_, HasSubstr("complete already"));
  for (const std::vector<std::string>& begin :
       {std::vector<std::string>{"check", WriteSpec(TinySpec()), "--set", start},
        {"train", WriteSpec(TinySpec()), "--set", start, "--output=" + folder_ + "/fresh"}}) {
    const ProgramResult result = RunProgram(begin);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.LastError(), HasSubstr("trainer.initial_checkpoint: "));
  }
}

TEST_F(EndToEndTest, FineTuningStartsFromACheckpointOfOtherClasses) {
  const std::string first = TrainTiny("first");
  const std::string second = folder_ + "/second";
  const ProgramResult result =
      RunProgram({"train", WriteSpec(TinySpec()), "--output=" + second, "--set", "data.dataset.num_classes=3", "--set",
                  "trainer.initial_checkpoint=" + first, "--set", "trainer.max_steps=1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("start from " + first), HasSubstr("head.weight")));
  const ProgramResult missing =
      RunProgram({"check", WriteSpec(TinySpec()), "--set", "trainer.initial_checkpoint=none"});
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.err, HasSubstr("trainer.initial_checkpoint: none: no such file or folder"));
}

TEST_F(EndToEndTest, ARunMayGoOnWithAChangedSpec) {
  std::string run = TrainTiny("run", {"--set", "trainer.ema_decay=0"});
  run = TrainTiny("run", {"--allow-changed-spec", "--set", "trainer.epochs=6"});
  EXPECT_THAT(out_, HasSubstr("resumed at step 16 of 24"));
  EXPECT_TRUE(fs::exists(run + "/checkpoints/last/ema.safetensors"));
}

TEST_F(EndToEndTest, EvalMeasuresWhatTrainingMeasured) {
  const std::string run = TrainTiny("run");
  const auto last = ReadMetrics(run).back();
  for (const bool ema : {false, true}) {
    std::vector<std::string> arguments = {"eval", run + "/experiment.textproto", "--checkpoint=" + run};
    if (ema) arguments.push_back("--ema");
    const ProgramResult result = RunProgram(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    std::map<std::string, double> values;
    for (const std::string& line : Lines(result.out))
      values[line.substr(0, line.find(':'))] = std::stod(line.substr(line.find(':') + 1));
    EXPECT_NEAR(values.at("top1"), last.at(ema ? "val_ema/top1" : "val/top1"), 1e-3);
    EXPECT_EQ(values.at("images"), 24);
  }
}

TEST_F(EndToEndTest, ARunDirectoryIsExportedWithItsClassNames) {
  const std::string run = TrainTiny("run", {"--set", "pooling=[type.googleapis.com/graticule.ClassToken] {}"});
  const std::string exported = folder_ + "/exported";
  const ProgramResult result = RunProgram({"export", run, "--ema", "--output=" + exported});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  ExpectSameTensors(run + "/checkpoints/last/ema.safetensors", exported + "/model.safetensors");
  const auto config = nlohmann::json::parse(ReadText(exported + "/config.json"));
  EXPECT_EQ(config.at("num_classes"), 4);
  EXPECT_EQ(config.at("label_names").size(), 4);
  EXPECT_EQ(ReadTensors(exported + "/model.safetensors").metadata.count("class_names"), 1);
  EXPECT_EQ(RunProgram({"eval", run, "--checkpoint=" + exported}).exit_code, 0);
  EXPECT_EQ(RunProgram({"export", run + "/experiment.textproto", "--output=" + exported}).exit_code, 2);
}

TEST_F(EndToEndTest, PredictTakesTensorsAndGivesLogitsAndTokens) {
  const std::string run = TrainTiny("run");
  Safetensors input;
  input.tensors.emplace_back("images", at::randn({5, 3, 16, 16}));
  ASSERT_TRUE(WriteSafetensors(folder_ + "/in.safetensors", input).ok());
  const std::string output = folder_ + "/out.safetensors";
  const std::vector<std::string> arguments = {"predict", run + "/experiment.textproto",
                                              "--tensors=" + folder_ + "/in.safetensors", "--output=" + output,
                                              "--tokens"};
  std::vector<at::Tensor> logits;
  // A run directory, a step folder, a file: the same weights.
  for (const char* checkpoint : {"", "/checkpoints/step-000016", "/checkpoints/last/model.safetensors"}) {
    auto with_checkpoint = arguments;
    with_checkpoint.push_back("--checkpoint=" + run + checkpoint);
    const ProgramResult result = RunProgram(with_checkpoint);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const Safetensors written = ReadTensors(output);
    EXPECT_EQ(written.Find("logits").sizes(), (std::vector<int64_t>{5, 4}));
    EXPECT_EQ(written.Find("tokens").sizes(), (std::vector<int64_t>{5, 16, 16}));
    logits.push_back(written.Find("logits"));
  }
  EXPECT_TRUE(at::equal(logits[0], logits[1]));
  EXPECT_TRUE(at::equal(logits[0], logits[2]));
}

TEST_F(EndToEndTest, PredictGivesWhatTheTrainedObjectivesSay) {
  const std::string run = TrainTiny("run");
  Safetensors input;
  input.tensors.emplace_back("images", at::randn({5, 3, 16, 16}));
  ASSERT_TRUE(WriteSafetensors(folder_ + "/in.safetensors", input).ok());
  const std::vector<std::string> arguments = {"predict",
                                              run + "/experiment.textproto",
                                              "--checkpoint=" + run,
                                              "--tensors=" + folder_ + "/in.safetensors",
                                              "--output=" + folder_ + "/out.safetensors",
                                              "--tokens",
                                              "--with-objectives"};
  const ProgramResult result = RunProgram(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Safetensors written = ReadTensors(folder_ + "/out.safetensors");
  const Safetensors head = ReadTensors(run + "/checkpoints/last/objectives.safetensors");
  at::Tensor x = written.Find("tokens").narrow(2, 0, 8);
  for (const std::string layer : {"apl.fc1", "apl.fc2", "apl.head"}) {
    x = at::linear(x, head.Find(layer + ".weight"), head.Find(layer + ".bias"));
    if (layer == "apl.fc1") x = at::gelu(x);
  }
  ASSERT_EQ(written.Find("apl/logits").sizes(), (std::vector<int64_t>{5, 16, 16}));
  EXPECT_LT(written.Find("apl/logits").sub(x).abs().max().item<double>(), 1e-5);

  const auto with = [&](const std::vector<std::string>& more) {
    auto extended = arguments;
    extended.insert(extended.end(), more.begin(), more.end());
    return RunProgram(extended);
  };
  const ProgramResult renamed = with({"--set", "objectives[0].name=position"});
  EXPECT_EQ(renamed.exit_code, 1);
  EXPECT_THAT(renamed.LastError(), HasSubstr("no weights that fit the objectives: position would be random"));

  const std::string other = folder_ + "/without.textproto";
  std::string spec = TinySpec();
  const size_t objectives = spec.find("objectives {");
  spec.erase(objectives, spec.find('\n', objectives) - objectives);
  WriteText(other, spec);
  const ProgramResult without =
      RunProgram({"predict", other, "--checkpoint=" + run, "--tensors=" + folder_ + "/in.safetensors", "--output=out",
                  "--with-objectives"});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_THAT(without.LastError(), HasSubstr("has no objectives"));
}

TEST_F(EndToEndTest, ListNamesEveryPluginWithItsFields) {
  const ProgramResult result = RunProgram({"list"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("graticule.Vit"), HasSubstr("patch_size"), HasSubstr("graticule.Mpvg"),
                                HasSubstr("graticule.AbsolutePositionalLabel"), HasSubstr("graticule.ImageFolder")));
}

TEST_F(EndToEndTest, ShowCountsParameters) {
  const ProgramResult result =
      RunProgram({"show", Runfile("graticule/configs/models/deit_tiny_patch16_224.textproto")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, ContainsRegex("(^|\n)parameters: 5717416\n"));
  EXPECT_THAT(result.out, HasSubstr("MACs"));
  EXPECT_THAT(result.out, HasSubstr("pos_embed"));
}

TEST_F(EndToEndTest, ShowAndBenchGoByTheDataSetsClasses) {
  const std::string spec = WriteSpec(TinySpec());
  const auto parameters = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"bench",          spec,        "--set", "task.num_classes=1000",
                                          "--batch-size=4", "--steps=1", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = RunProgram(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out).at("parameters").get<int64_t>();
  };
  const int64_t with_data = parameters({});
  // A row of 16 weights and a bias for each class.
  EXPECT_EQ(parameters({"--model-only"}), with_data + 996 * 17);
  const ProgramResult shown = RunProgram({"show", spec, "--set", "task.num_classes=1000"});
  EXPECT_THAT(shown.out,
              AllOf(HasSubstr("classes: 4\n"), HasSubstr("\nparameters: " + std::to_string(with_data) + "\n")));
}

TEST_F(EndToEndTest, ShowGivesTheObjectivesALineOfTheirOwn) {
  const ProgramResult result = RunProgram({"show", WriteSpec(TinySpec())});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  // fc1 8·8+8, fc2 8·4+4, head 4·16+16.
  EXPECT_THAT(result.out, HasSubstr("objective parameters: 188"));
}

TEST_F(EndToEndTest, BenchPrintsJson) {
  const ProgramResult result = RunProgram({"bench", WriteSpec(TinySpec()), "--batch-size=4", "--steps=2", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << result.out;
  EXPECT_GT(json["train"]["images_per_second"].get<double>(), 0);
  EXPECT_GT(json["inference"]["images_per_second"].get<double>(), 0);
  EXPECT_GT(json["macs_per_image"].get<double>(), 0);
  EXPECT_EQ(json["precision"], "fp32");
}

TEST_F(EndToEndTest, BenchTakesEachPrecisionByTheSpecOrByItsName) {
  const std::vector<std::string> bench = {"bench",     WriteSpec(TinySpec()), "--batch-size=4",
                                          "--steps=1", "--model-only",        "--json"};
  for (const std::string name : {"bf16", "fp16"}) {
    std::vector<std::string> by_name = bench, by_spec = bench;
    by_name.push_back("--precision=" + name);
    by_spec.insert(by_spec.end(), {"--set", "trainer.precision=" + std::string(name == "bf16" ? "BF16" : "FP16")});
    for (const auto& arguments : {by_name, by_spec}) {
      const ProgramResult result = RunProgram(arguments);
      ASSERT_EQ(result.exit_code, 0) << result.err;
      EXPECT_EQ(nlohmann::json::parse(result.out)["precision"], name);
    }
  }
}

TEST_F(EndToEndTest, HelpIsThere) {
  for (const char* command :
       {"train", "eval", "predict", "show", "list", "check", "bench", "import", "export", "replay"}) {
    const ProgramResult result = RunProgram({command, "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, HasSubstr("--help")) << command;
  }
  EXPECT_EQ(RunProgram({"trian"}).exit_code, 2);
}

TEST_F(EndToEndTest, APluginOfAnotherRepositoryTrains) {
  const std::string run = folder_ + "/run";
  const ProgramOptions options{.binary = "out_of_tree_plugin/my_graticule"};
  const ProgramResult result =
      RunProgram({"train", Runfile("out_of_tree_plugin/experiment.textproto"), "--output=" + run}, options);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(ReadText(run + "/experiment.textproto"), HasSubstr("my_lab.PatchMlp"));
  EXPECT_THAT(RunProgram({"list"}, options).out, HasSubstr("my_lab.PatchMlp"));
  EXPECT_THAT(RunProgram({"list"}).out, Not(HasSubstr("my_lab.PatchMlp")));
}

}  // namespace
}  // namespace graticule
