// Checkpoints that other codes wrote go through the program, and come out again for timm. The files are made by
// tools/parity/make_checkpoint_fixtures.py.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ATen/ops/equal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "nn/safetensors.h"
#include "nn/weights_file.h"
#include "tests/program.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr double kTolerance = 5e-5;

std::string Fixture(const std::string& name) { return Runfile("graticule/tests/testdata/checkpoints/" + name); }

Safetensors Read(const std::string& path) {
  auto contents = ReadWeightsFile(path, false);
  EXPECT_TRUE(contents.ok()) << contents.status();
  return contents.ok() ? *std::move(contents) : Safetensors();
}

struct Model {
  std::string pooling = "[type.googleapis.com/graticule.ClassToken] {}";
  std::string position = "LEARNED";
  std::string objectives;
  int image_size = 16;
  int classes = 10;
};

const Model kDistilled{.pooling = "[type.googleapis.com/graticule.ClassToken] { distillation_token: true }"};
const Model kLape{.pooling = "[type.googleapis.com/graticule.ClassToken] { delivery { preset: LAPE } }",
                  .position = "SINUSOID_1D"};
const Model kPositionalLabel{
    .pooling = "[type.googleapis.com/graticule.Average] {}",
    .objectives = "objectives { objective { [type.googleapis.com/graticule.AbsolutePositionalLabel] {} } }\n"};

class CheckpointsTest : public testing::Test {
 protected:
  // The small models of the fixtures.
  std::string WriteSpec(const Model& model) {
    const std::string path = folder_ + "/spec.textproto";
    WriteText(path,
              "task { [type.googleapis.com/graticule.Classification] { num_classes: " + std::to_string(model.classes) +
                  " } }\n"
                  "backbone { [type.googleapis.com/graticule.Vit] { patch_size: 4 embed_dim: 16 depth: 2 "
                  "num_heads: 2 position: " +
                  model.position + " } }\npooling { " + model.pooling + " }\n" + model.objectives +
                  "data {\n  image_size: " + std::to_string(model.image_size) +
                  "\n  eval_transforms { [type.googleapis.com/graticule.Resize] { crop_pct: 0.9 } }\n"
                  "  eval_transforms { [type.googleapis.com/graticule.CenterCrop] {} }\n"
                  "  mean: [0.5, 0.5, 0.5]\n  std: [0.5, 0.5, 0.5]\n}\ntrainer { device: CPU threads: 1 }\n");
    return path;
  }

  ProgramResult Predict(const Model& model, const std::string& checkpoint, std::vector<std::string> more = {}) {
    Safetensors images;
    images.tensors.emplace_back("images", expected_.Find(model.image_size == 24 ? "images_24" : "images"));
    EXPECT_TRUE(WriteSafetensors(folder_ + "/images.safetensors", images).ok());
    std::vector<std::string> arguments = {"predict", WriteSpec(model), "--checkpoint=" + checkpoint,
                                          "--tensors=" + folder_ + "/images.safetensors",
                                          "--output=" + folder_ + "/out.safetensors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments);
  }

  // The program's logits are those that the other code had; returns what it said.
  std::string ExpectLogits(const Model& model, const std::string& checkpoint, const std::string& name) {
    const ProgramResult result = Predict(model, checkpoint);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (result.exit_code == 0) ExpectNear("logits", name);
    return result.err;
  }
  void ExpectNear(const std::string& output, const std::string& name) {
    const at::Tensor found = Read(folder_ + "/out.safetensors").Find(output);
    ASSERT_EQ(found.sizes(), expected_.Find(name).sizes());
    EXPECT_LT(found.sub(expected_.Find(name)).abs().max().item<double>(), kTolerance) << name;
  }

  // What `import` prints; it must succeed.
  std::string Import(const Model& model, const std::string& checkpoint) {
    const ProgramResult result =
        RunProgram({"import", WriteSpec(model), "--checkpoint=" + checkpoint, "--output=" + imported_});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  }

  ProgramResult Export(const Model& model, const std::string& checkpoint, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"export", WriteSpec(model), "--checkpoint=" + checkpoint,
                                          "--output=" + exported_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments);
  }

  const std::string folder_ = FreshFolder("work");
  const std::string imported_ = folder_ + "/imported.safetensors";
  const std::string exported_ = folder_ + "/exported";
  const Safetensors expected_ = Read(Fixture("expected.safetensors"));
};

TEST_F(CheckpointsTest, TimmsSafetensors) {
  EXPECT_THAT(ExpectLogits({}, Fixture("timm.safetensors"), "timm"), HasSubstr("32 tensors loaded\n"));
}

TEST_F(CheckpointsTest, DeitsPickles) {
  ExpectLogits({}, Fixture("deit.pth"), "timm");
  ExpectLogits(kDistilled, Fixture("deit_distilled.pth"), "deit_distilled");
}

TEST_F(CheckpointsTest, LapesNamesAndItsTableWithoutAnAxisForTheBatch) {
  const std::string said = ExpectLogits(kLape, Fixture("lape.pth"), "lape");
  EXPECT_THAT(said, AllOf(HasSubstr("by the names of Ingrid725/LaPE"), Not(HasSubstr("ignored"))));
}

TEST_F(CheckpointsTest, ThePositionalLabelsModelWithItsHead) {
  const ProgramResult result = Predict(kPositionalLabel, Fixture("positional_label.pth"), {"--with-objectives"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("objectives too: apl"), Not(HasSubstr("ignored"))));
  ExpectNear("logits", "positional_label");
  ExpectNear("apl/logits", "positional_label_apl");

  Model without = kPositionalLabel;
  without.objectives.clear();
  EXPECT_THAT(ExpectLogits(without, Fixture("positional_label.pth"), "positional_label"),
              HasSubstr("ignored, as the model has none of this name: To2D.fc1.bias"));
}

TEST_F(CheckpointsTest, ImportWritesOurNamesAndTheObjectives) {
  EXPECT_THAT(Import(kLape, Fixture("lape.pth")),
              AllOf(HasSubstr("layout: Ingrid725/LaPE\n"), HasSubstr(": 36 tensors\n")));
  const Safetensors imported = Read(imported_);
  EXPECT_EQ(imported.metadata.at("source_layout"), "Ingrid725/LaPE");
  EXPECT_TRUE(imported.Find("pos_norms.0.weight").defined());
  EXPECT_THAT(ExpectLogits(kLape, imported_, "lape"), Not(HasSubstr("by the names of")));

  EXPECT_THAT(Import(kPositionalLabel, Fixture("positional_label.pth")),
              AllOf(HasSubstr("layout: timm"), HasSubstr("objectives: apl\n")));
  EXPECT_TRUE(Read(imported_).Find("objectives.apl.head.weight").defined());
  ASSERT_EQ(Predict(kPositionalLabel, imported_, {"--with-objectives"}).exit_code, 0);
  ExpectNear("apl/logits", "positional_label_apl");
}

TEST_F(CheckpointsTest, ImportIsToldTheModelAndTheFile) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"import", "--checkpoint=" + Fixture("deit.pth"), "--output=x"},
        {"import", WriteSpec({}), "--output=x"},
        {"import", WriteSpec({}), "--checkpoint=" + Fixture("deit.pth")}}) {
    EXPECT_EQ(RunProgram(arguments).exit_code, 2);
  }
}

TEST_F(CheckpointsTest, PositionsOfAnotherImageSizeAreResizedAsByTimm) {
  const Model model{.image_size = 24};
  EXPECT_THAT(ExpectLogits(model, Fixture("timm.safetensors"), "timm_24"),
              HasSubstr("adapted to this model's size: pos_embed"));
  EXPECT_THAT(Import(model, Fixture("deit.pth")), HasSubstr("resized to this model's size: pos_embed\n"));
  EXPECT_EQ(Read(imported_).Find("pos_embed").sizes(), (std::vector<int64_t>{1, 37, 16}));
}

TEST_F(CheckpointsTest, AClassifierOfOtherClassesIsLeftOutAloud) {
  const Model model{.classes = 5};
  const ProgramResult predicted = Predict(model, Fixture("timm.safetensors"));
  EXPECT_EQ(predicted.exit_code, 1);
  EXPECT_THAT(predicted.LastError(), HasSubstr("head.weight, head.bias would be random"));
  EXPECT_THAT(Import(model, Fixture("timm.safetensors")),
              HasSubstr("left out, as the checkpoint has other classes than the experiment, or none: head.weight, "
                        "head.bias\n"));
  EXPECT_FALSE(Read(imported_).Find("head.weight").defined());
  EXPECT_TRUE(Read(imported_).Find("norm.weight").defined());
  EXPECT_EQ(Predict(model, imported_).exit_code, 1);
}

TEST_F(CheckpointsTest, ACheckpointOfAnotherModelIsRefusedByItsDifferences) {
  const ProgramResult deeper = Predict({}, Fixture("timm.safetensors"), {"--set", "backbone.depth=3"});
  EXPECT_EQ(deeper.exit_code, 1);
  EXPECT_THAT(deeper.LastError(),
              AllOf(HasSubstr("a checkpoint of another model"), HasSubstr("blocks.2.norm1.weight")));
  const ProgramResult wider = RunProgram({"import", WriteSpec({}), "--checkpoint=" + Fixture("timm.safetensors"),
                                          "--output=" + imported_, "--set", "backbone.embed_dim=32"});
  EXPECT_EQ(wider.exit_code, 1);
  EXPECT_THAT(wider.LastError(), HasSubstr("is [1,1,16] instead of [1,1,32]"));
  EXPECT_FALSE(fs::exists(imported_));
  const ProgramResult lape = Predict({}, Fixture("lape.pth"), {"--set", "pooling.delivery.preset=MPVG"});
  EXPECT_EQ(lape.exit_code, 1);
  EXPECT_THAT(lape.LastError(), HasSubstr("nearest to the names of Ingrid725/LaPE: 2 tensors are missing"));
}

// timm's norm of the mean is another function than the mean of the norm.
TEST_F(CheckpointsTest, TimmsAveragePoolingIsRefusedWithItsReason) {
  Safetensors weights = Read(Fixture("positional_label.pth"));
  for (auto& [name, tensor] : weights.tensors) {
    if (name.starts_with("norm.")) name = "fc_" + name;
  }
  ASSERT_TRUE(WriteSafetensors(folder_ + "/avg.safetensors", weights).ok());
  const ProgramResult result = Predict(kPositionalLabel, folder_ + "/avg.safetensors");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), AllOf(HasSubstr("timm's global_pool='avg'"), HasSubstr("fc_norm")));
}

TEST_F(CheckpointsTest, ExportWritesWhatTimmWrites) {
  const ProgramResult result = Export({}, Fixture("timm.safetensors"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("timm.create_model(\"local-dir:" + exported_ + "\""));
  const Safetensors timm = Read(Fixture("timm.safetensors")), exported = Read(exported_ + "/model.safetensors");
  ASSERT_EQ(exported.tensors.size(), timm.tensors.size());
  for (const auto& [name, tensor] : timm.tensors) EXPECT_TRUE(at::equal(exported.Find(name), tensor)) << name;
  ExpectLogits({}, exported_, "timm");

  const Json config = Json::parse(ReadText(exported_ + "/config.json"));
  const Json theirs = Json::parse(ReadText(Fixture("config.json")));
  for (const char* key : {"architecture", "num_classes", "num_features", "global_pool"}) {
    EXPECT_EQ(config.at(key), theirs.at(key)) << key;
  }
  for (const auto& [key, value] : theirs.at("model_args").items()) EXPECT_EQ(config.at("model_args").at(key), value);
  for (const char* key : {"fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "pool_size",
                          "first_conv", "classifier"}) {
    EXPECT_EQ(config.at("pretrained_cfg").at(key), theirs.at("pretrained_cfg").at(key)) << key;
  }
  EXPECT_EQ(config.at("pretrained_cfg").at("input_size"), (Json{3, 16, 16}));
  EXPECT_FALSE(config.contains("label_names"));
}

TEST_F(CheckpointsTest, ExportKnowsTimmsOtherPlainModels) {
  ASSERT_EQ(Export(kDistilled, Fixture("deit_distilled.pth")).exit_code, 0);
  const Json distilled = Json::parse(ReadText(exported_ + "/config.json"));
  EXPECT_EQ(distilled.at("architecture"), "deit_base_distilled_patch16_224");
  EXPECT_EQ(distilled.at("pretrained_cfg").at("classifier"), (Json{"head", "head_dist"}));

  ASSERT_EQ(Export(kPositionalLabel, Fixture("positional_label.pth")).exit_code, 0);
  const Json average = Json::parse(ReadText(exported_ + "/config.json"));
  EXPECT_EQ(average.at("model_args").at("global_pool"), "avg");
  EXPECT_EQ(average.at("model_args").at("fc_norm"), false);
  EXPECT_EQ(average.at("model_args").at("class_token"), false);
  for (const auto& [name, tensor] : Read(exported_ + "/model.safetensors").tensors) {
    EXPECT_FALSE(name.starts_with("objectives.")) << name;
  }
}

TEST_F(CheckpointsTest, WhatTimmLacksIsExportedByOtherNames) {
  const ProgramResult refused = Export(kLape, Fixture("lape.pth"));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.LastError(),
              AllOf(HasSubstr("timm delivers the position to the input alone"), HasSubstr("--layout=graticule")));
  EXPECT_FALSE(fs::exists(exported_));

  ASSERT_EQ(Export(kLape, Fixture("lape.pth"), {"--layout=graticule"}).exit_code, 0);
  EXPECT_TRUE(Read(exported_ + "/model.safetensors").Find("pos_norms.1.bias").defined());
  EXPECT_FALSE(fs::exists(exported_ + "/config.json"));

  ASSERT_EQ(Export(kLape, Fixture("lape.pth"), {"--layout=Ingrid725/LaPE"}).exit_code, 0);
  std::map<std::string, std::vector<int64_t>> exported, official;
  for (const auto& [name, tensor] : Read(exported_ + "/model.safetensors").tensors) {
    exported[name] = tensor.sizes().vec();
  }
  for (const auto& [name, tensor] : Read(Fixture("lape.pth")).tensors) official[name] = tensor.sizes().vec();
  EXPECT_EQ(exported, official);

  const ProgramResult unknown = Export({}, Fixture("deit.pth"), {"--layout=them"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.LastError(), HasSubstr("no layout 'them'; it has timm, graticule, Ingrid725/LaPE"));
}

}  // namespace
}  // namespace graticule
