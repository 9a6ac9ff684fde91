// Every experiment under configs/ is read, checked, built and trained for one step at a tiny size. A new file is found
// by itself.
#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "data/datasets/synthetic/synthetic.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "gtest/gtest.h"
#include "nn/module.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "tests/program.h"
#include "trainer/parts.h"
#include "trainer/spec.h"
#include "trainer/trainer.h"

namespace graticule {
namespace {

std::vector<std::string> Configs() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(Runfile("graticule/configs"))) {
    // A recipe is no experiment, but a base of some.
    if (entry.path().parent_path().filename() == "recipes") continue;
    if (entry.path().extension() == ".textproto") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string ConfigName(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(info.param.find("configs/") + 8);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

class ConfigsTest : public testing::TestWithParam<std::string> {
 protected:
  Experiment Load() {
    auto spec = Spec::Load(GetParam());
    EXPECT_TRUE(spec.ok()) << spec.status().message();
    return spec.ok() ? spec->experiment() : Experiment();
  }
};

// All that can be wrong with it on a machine without its data set is that the data set is missing.
TEST_P(ConfigsTest, HasNoMistakes) {
  const Experiment experiment = Load();
  for (const FieldError& error : FieldErrors::FromStatus(CheckExperiment(experiment).status())) {
    EXPECT_TRUE(error.path.starts_with("data.dataset")) << error.path << ": " << error.message;
  }
}

// A model that keeps its shape but is shallow, on small images, for one step.
TEST_P(ConfigsTest, TrainsAStepAtATinySize) {
  Experiment experiment = Load();
  const auto* backbone =
      google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(AnyTypeName(experiment.backbone()));
  std::unique_ptr<google::protobuf::Message> config(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(backbone)->New());
  ASSERT_TRUE(experiment.backbone().UnpackTo(config.get()));
  const google::protobuf::Reflection& fields = *config->GetReflection();
  if (const auto* depth = backbone->FindFieldByName("depth")) fields.SetInt32(config.get(), depth, 2);
  if (const auto* depths = backbone->FindFieldByName("depths")) {
    for (int stage = 0; stage < fields.FieldSize(*config, depths); ++stage) {
      fields.SetRepeatedInt32(config.get(), depths, stage, 2);
    }
  }
  experiment.mutable_backbone()->PackFrom(*config);

  Synthetic synthetic;
  synthetic.set_train_size(4);
  synthetic.set_val_size(2);
  synthetic.set_height(40);
  synthetic.set_width(36);
  {
    // As many classes as the model says it has; where it leaves that to the data set, any number.
    MetaScope meta;
    for (const int classes : {10, 100, 256, 257, 1000}) {
      synthetic.set_num_classes(classes);
      if (BuildTask(experiment, std::vector<std::string>(classes, "x")).ok()) break;
    }
  }
  experiment.mutable_data()->mutable_dataset()->PackFrom(synthetic);
  if (experiment.data().image_size(0) > 32) {
    experiment.mutable_data()->clear_image_size();
    experiment.mutable_data()->add_image_size(32);
  } else {
    synthetic.set_height(experiment.data().image_size(0));
    synthetic.set_width(experiment.data().image_size(experiment.data().image_size_size() - 1));
    experiment.mutable_data()->mutable_dataset()->PackFrom(synthetic);
  }
  experiment.mutable_data()->set_threads(1);
  Trainer& trainer = *experiment.mutable_trainer();
  trainer.set_batch_size(2);
  trainer.clear_accumulation_steps();
  trainer.set_max_steps(1);
  trainer.set_device(Trainer::CPU);
  experiment.clear_expected();
  absl::StatusOr<DataParts> data = BuildData(experiment);
  ASSERT_TRUE(data.ok()) << data.status();
  const absl::Status trained = Train(experiment, *std::move(data), {.output = FreshFolder("run")});
  EXPECT_TRUE(trained.ok()) << trained;
}

INSTANTIATE_TEST_SUITE_P(All, ConfigsTest, testing::ValuesIn(Configs()), ConfigName);

}  // namespace
}  // namespace graticule
