#include "trainer/parts.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full_like.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/zeros_like.h"
#include "c10/core/GradMode.h"
#include "data/loader/cached_dataset.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/optimizers/parameter_groups.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;

constexpr char kTiny[] = R"pb(
  task {
    [type.googleapis.com/graticule.Classification] {}
  }
  backbone {
    [type.googleapis.com/graticule.Vit] { patch_size: 4 embed_dim: 8 depth: 2 num_heads: 2 }
  }
  pooling {
    [type.googleapis.com/graticule.Mpvg] {}
  }
  objectives {
    objective {
      [type.googleapis.com/graticule.AbsolutePositionalLabel] {}
    }
  }
  data {
    dataset {
      [type.googleapis.com/graticule.Synthetic] { num_classes: 3 train_size: 13 val_size: 7 height: 8 }
    }
    image_size: 8
    train_transforms {
      [type.googleapis.com/graticule.CenterCrop] {}
    }
    eval_transforms {
      [type.googleapis.com/graticule.CenterCrop] {}
    }
    threads: 1
  }
  trainer {
    epochs: 2
    batch_size: 4
    learning_rate: 0.001
    optimizer {
      [type.googleapis.com/graticule.AdamW] { weight_decay: 0.1 }
    }
    schedule {
      [type.googleapis.com/graticule.Cosine] {}
    }
    sinks {
      [type.googleapis.com/graticule.Csv] {}
    }
    device: CPU
  }
)pb";

Experiment Tiny() {
  Experiment experiment;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(kTiny, &experiment));
  return experiment;
}

google::protobuf::Any Plugin(const std::string& text) {
  google::protobuf::Any any;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString("[type.googleapis.com/graticule." + text, &any)) << text;
  return any;
}

TEST(CheckExperimentTest, TransformsMustMakeTheModelsSize) {
  Experiment experiment = Tiny();
  Data& data = *experiment.mutable_data();
  *data.mutable_dataset() = Plugin("Synthetic] { height: 20 width: 30 }");
  *data.mutable_eval_transforms(0) = Plugin("CenterCrop] { size: [8, 12] }");
  const std::string error(CheckExperiment(experiment).status().message());
  EXPECT_THAT(error, ::testing::HasSubstr("data.eval_transforms: make 8×12 pixels of synthetic/val[0] (20×30), but "
                                          "data.image_size is 8×8"));
  EXPECT_THAT(error, ::testing::Not(::testing::HasSubstr("train_transforms")));
  *data.mutable_eval_transforms(0) = Plugin("CenterCrop] {}");
  EXPECT_TRUE(CheckExperiment(experiment).ok()) << CheckExperiment(experiment).status();
}

// Of a plugin that need not exist.
google::protobuf::Any OfType(const std::string& name) {
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/" + name);
  return any;
}

struct Mistake {
  std::string path;
  std::function<void(Experiment&)> make;
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.path; }

// Of each field at most one, and none that hides another.
std::vector<Mistake> IndependentMistakes() {
  using E = Experiment&;
  return {
      {"pooling", [](E e) { *e.mutable_pooling() = OfType("graticule.AdamW"); }},
      {"backbone.patch_size", [](E e) { *e.mutable_backbone() = Plugin("Vit] { patch_size: 3 }"); }},
      {"data.dataset.train_size",
       [](E e) { *e.mutable_data()->mutable_dataset() = Plugin("Synthetic] { train_size: -1 }"); }},
      {"data.train_transforms[1]", [](E e) { *e.mutable_data()->add_train_transforms() = OfType("graticule.Vit"); }},
      {"data.eval_transforms[0]", [](E e) { *e.mutable_data()->mutable_eval_transforms(0) = OfType("graticule.No"); }},
      {"data.mean", [](E e) { e.mutable_data()->add_mean(0.5); }},
      {"data.std",
       [](E e) {
         for (int i = 0; i < 4; ++i) e.mutable_data()->add_std(0.5);
       }},
      {"data.threads", [](E e) { e.mutable_data()->set_threads(-1); }},
      {"data.max_broken", [](E e) { e.mutable_data()->set_max_broken(1.01); }},
      {"data.eval_batch_size", [](E e) { e.mutable_data()->set_eval_batch_size(-4); }},
      {"trainer.epochs", [](E e) { e.mutable_trainer()->set_epochs(0); }},
      {"trainer.accumulation_steps", [](E e) { e.mutable_trainer()->set_accumulation_steps(3); }},
      {"trainer.max_steps", [](E e) { e.mutable_trainer()->set_max_steps(-1); }},
      {"trainer.optimizer", [](E e) { *e.mutable_trainer()->mutable_optimizer() = OfType("graticule.Cosine"); }},
      {"trainer.learning_rate", [](E e) { e.mutable_trainer()->set_learning_rate(std::nan("")); }},
      {"trainer.learning_rate_batch_size", [](E e) { e.mutable_trainer()->set_learning_rate_batch_size(-1); }},
      {"trainer.clip_norm", [](E e) { e.mutable_trainer()->set_clip_norm(-1); }},
      {"trainer.ema_decay", [](E e) { e.mutable_trainer()->set_ema_decay(1); }},
      {"trainer.threads", [](E e) { e.mutable_trainer()->set_threads(-1); }},
      {"trainer.log_interval", [](E e) { e.mutable_trainer()->set_log_interval(-1); }},
      {"trainer.eval_interval", [](E e) { e.mutable_trainer()->set_eval_interval(-1); }},
      {"trainer.checkpoint_interval", [](E e) { e.mutable_trainer()->set_checkpoint_interval(-1); }},
      {"trainer.keep_checkpoints", [](E e) { e.mutable_trainer()->set_keep_checkpoints(-1); }},
      {"trainer.sinks[1]", [](E e) { *e.mutable_trainer()->add_sinks() = OfType("graticule.Csvv"); }},
      {"expected[0]", [](E e) { e.add_expected()->set_metric("val/top1"); }},
  };
}

std::vector<Mistake> OtherMistakes() {
  using E = Experiment&;
  return {
      {"task", [](E e) { e.clear_task(); }},
      {"backbone", [](E e) { *e.mutable_backbone() = OfType("graticule.Mpvg"); }},
      {"objectives[0].objective", [](E e) { *e.mutable_objectives(0)->mutable_objective() = OfType("graticule.Vit"); }},
      {"data.dataset", [](E e) { e.mutable_data()->clear_dataset(); }},
      {"data.image_size", [](E e) { e.mutable_data()->clear_image_size(); }},
      {"data.image_size",
       [](E e) {
         e.mutable_data()->add_image_size(8);
         e.mutable_data()->add_image_size(8);
       }},
      {"data.image_size[1]", [](E e) { e.mutable_data()->add_image_size(0); }},
      {"data.std[1]",
       [](E e) {
         for (const float value : {0.5f, 0.0f, 0.5f}) e.mutable_data()->add_std(value);
       }},
      {"data.max_broken", [](E e) { e.mutable_data()->set_max_broken(-0.01); }},
      {"trainer.batch_size", [](E e) { e.mutable_trainer()->set_batch_size(0); }},
      {"trainer.batch_size", [](E e) { e.mutable_trainer()->set_batch_size(-4); }},
      {"trainer.batch_size", [](E e) { e.mutable_trainer()->set_batch_size(14); }},
      {"trainer.accumulation_steps", [](E e) { e.mutable_trainer()->set_accumulation_steps(-1); }},
      {"trainer.learning_rate", [](E e) { e.mutable_trainer()->set_learning_rate(0); }},
      {"trainer.ema_decay", [](E e) { e.mutable_trainer()->set_ema_decay(-0.1); }},
      {"trainer.optimizer", [](E e) { e.mutable_trainer()->clear_optimizer(); }},
      {"trainer.schedule", [](E e) { e.mutable_trainer()->clear_schedule(); }},
      {"trainer.schedule", [](E e) { *e.mutable_trainer()->mutable_schedule() = OfType("graticule.AdamW"); }},
      {"trainer.sinks[0]", [](E e) { *e.mutable_trainer()->mutable_sinks(0) = OfType("graticule.Cosine"); }},
      {"expected[0]", [](E e) { e.add_expected()->set_min(90); }},
      {"expected[0]",
       [](E e) {
         Expected& expected = *e.add_expected();
         expected.set_metric("val/top1");
         expected.set_min(3);
         expected.set_max(2);
       }},
  };
}

TEST(CheckExperimentTest, FindsNothingWhereNothingIsWrong) {
  const absl::Status status = CheckExperiment(Tiny()).status();
  EXPECT_TRUE(status.ok()) << status;
}

class CheckExperimentTest : public testing::TestWithParam<Mistake> {};

TEST_P(CheckExperimentTest, OneMistakeIsOneErrorAtItsPath) {
  Experiment experiment = Tiny();
  GetParam().make(experiment);
  const absl::Status status = CheckExperiment(experiment).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ErrorPaths(status), ElementsAre(GetParam().path)) << status;
}

INSTANTIATE_TEST_SUITE_P(Independent, CheckExperimentTest, testing::ValuesIn(IndependentMistakes()));
INSTANTIATE_TEST_SUITE_P(Other, CheckExperimentTest, testing::ValuesIn(OtherMistakes()));

TEST(CheckExperimentTest, AllMistakesComeTogether) {
  Experiment experiment = Tiny();
  std::vector<std::string> paths;
  for (const Mistake& mistake : IndependentMistakes()) {
    mistake.make(experiment);
    paths.push_back(mistake.path);
  }
  EXPECT_THAT(ErrorPaths(CheckExperiment(experiment).status()), UnorderedElementsAreArray(paths));
}

TEST(CheckExperimentTest, AnImageSizeThatIsNoneHidesOnlyWhatDependsOnIt) {
  Experiment experiment = Tiny();
  std::vector<std::string> paths = {"data.image_size"};
  for (const Mistake& mistake : IndependentMistakes()) {
    mistake.make(experiment);
    if (mistake.path != "backbone.patch_size") paths.push_back(mistake.path);
  }
  experiment.mutable_data()->clear_image_size();
  *experiment.mutable_data()->add_train_transforms() = Plugin("Resize] { crop_pct: 2 }");
  paths.push_back("data.train_transforms[2].crop_pct");
  EXPECT_THAT(ErrorPaths(CheckExperiment(experiment).status()), UnorderedElementsAreArray(paths));
}

TEST(CheckExperimentTest, WhatMustBeChosenIsMissedAllAtOnce) {
  EXPECT_THAT(
      ErrorPaths(CheckExperiment(Experiment()).status()),
      UnorderedElementsAre("task", "backbone", "pooling", "data.dataset", "data.image_size", "trainer.epochs",
                           "trainer.batch_size", "trainer.learning_rate", "trainer.optimizer", "trainer.schedule"));
  // A task that lacks its backbone says so itself.
  Experiment experiment = Tiny();
  experiment.clear_backbone();
  experiment.clear_pooling();
  experiment.mutable_objectives(0)->clear_objective();
  EXPECT_THAT(ErrorPaths(CheckExperiment(experiment).status()),
              UnorderedElementsAre("backbone", "pooling", "objectives[0].objective"));
}

TEST(CheckExperimentTest, ATrainingThatGoesOnNeedsNotWhatItStartedFrom) {
  Experiment experiment = Tiny();
  experiment.mutable_trainer()->set_initial_checkpoint("none");
  EXPECT_THAT(ErrorPaths(CheckExperiment(experiment).status()), ElementsAre("trainer.initial_checkpoint"));
  EXPECT_TRUE(CheckExperiment(experiment, /*resumes=*/true).ok());
}

TEST(CheckExperimentTest, MessagesSayWhatWasFound) {
  Experiment experiment = Tiny();
  experiment.mutable_trainer()->set_batch_size(14);
  experiment.mutable_trainer()->set_accumulation_steps(4);
  *experiment.mutable_trainer()->mutable_sinks(0) = OfType("graticule.Csvv");
  *experiment.mutable_pooling() = OfType("graticule.AdamW");
  EXPECT_THAT(std::string(CheckExperiment(experiment).status().message()),
              AllOf(HasSubstr("14 is more than the data set's 13 training images"),
                    HasSubstr("4 does not divide batch_size 14"), HasSubstr("did you mean 'graticule.Csv'?"),
                    HasSubstr("'graticule.AdamW' is a plugin of kind optimizer, not pooling")));
}

TEST(CheckExperimentTest, CudaIsMissedWhereThereIsNone) {
  if (at::globalContext().hasCUDA()) GTEST_SKIP() << "this machine has CUDA";
  Experiment experiment = Tiny();
  experiment.mutable_trainer()->set_device(Trainer::CUDA);
  EXPECT_THAT(ErrorPaths(CheckExperiment(experiment).status()), ElementsAre("trainer.device"));
  // What the model consists of can be said on any machine.
  EXPECT_TRUE(CheckModel(experiment).ok());
}

TEST(CheckModelTest, NeedsNoDataSetAndNoTraining) {
  Experiment experiment = Tiny();
  experiment.mutable_data()->clear_dataset();
  experiment.clear_trainer();
  const absl::Status status = CheckModel(experiment);
  EXPECT_TRUE(status.ok()) << status;
  experiment.clear_backbone();
  experiment.mutable_data()->add_mean(1);
  EXPECT_THAT(ErrorPaths(CheckModel(experiment)), UnorderedElementsAreArray({"backbone", "data.mean"}));
}

TEST(CountStepsTest, CountsWholeBatches) {
  Trainer trainer;
  trainer.set_epochs(5);
  trainer.set_batch_size(32);
  EXPECT_EQ(CountSteps(trainer, 100).per_epoch, 3);
  EXPECT_EQ(CountSteps(trainer, 100).total, 15);
  EXPECT_EQ(CountSteps(trainer, 32).per_epoch, 1);
  EXPECT_EQ(CountSteps(trainer, 96).total, 15);
  EXPECT_EQ(CountSteps(trainer, 95).total, 10);
  // Parts of a batch are no steps.
  trainer.set_accumulation_steps(4);
  EXPECT_EQ(CountSteps(trainer, 100).total, 15);
  trainer.set_max_steps(7);
  EXPECT_EQ(CountSteps(trainer, 100).per_epoch, 3);
  EXPECT_EQ(CountSteps(trainer, 100).total, 7);
  trainer.set_max_steps(1000);
  EXPECT_EQ(CountSteps(trainer, 100).total, 15);
  // ImageNet-1k: more images and steps than fit into what a mistaken type would hold.
  trainer.clear_max_steps();
  trainer.set_batch_size(1);
  trainer.set_epochs(3000);
  EXPECT_EQ(CountSteps(trainer, 1281167).total, 3843501000);
}

TEST(BuildScheduleTest, ThePeakScalesWithTheBatch) {
  Experiment experiment = Tiny();
  const auto first_rate = [&] {
    const auto schedule = BuildSchedule(experiment, {.per_epoch = 3, .total = 6});
    EXPECT_TRUE(schedule.ok()) << schedule.status();
    return (*schedule)->LearningRate(0);
  };
  experiment.mutable_trainer()->set_learning_rate(5e-4);
  experiment.mutable_trainer()->set_batch_size(1024);
  EXPECT_DOUBLE_EQ(first_rate(), 5e-4);
  experiment.mutable_trainer()->set_learning_rate_batch_size(512);
  EXPECT_DOUBLE_EQ(first_rate(), 1e-3);
  experiment.mutable_trainer()->set_batch_size(128);
  EXPECT_DOUBLE_EQ(first_rate(), 1.25e-4);
}

TEST(BuildScheduleTest, EndsWithTheTraining) {
  const auto schedule = BuildSchedule(Tiny(), {.per_epoch = 3, .total = 6});
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_DOUBLE_EQ((*schedule)->LearningRate(3), 0.0005);
  EXPECT_DOUBLE_EQ((*schedule)->LearningRate(6), 0);
}

std::unique_ptr<Task> MakeTask(const Experiment& experiment) {
  auto task = BuildTask(experiment, {"a", "b", "c"});
  EXPECT_TRUE(task.ok()) << task.status();
  return *std::move(task);
}

TEST(BuildTaskTest, WeightsAreAFunctionOfTheSeed) {
  Experiment experiment = Tiny();
  experiment.mutable_trainer()->set_seed(3);
  const auto first = MakeTask(experiment);
  at::rand({100});
  const auto second = MakeTask(experiment);
  experiment.mutable_trainer()->set_seed(4);
  const auto other = MakeTask(experiment);
  const auto a = first->Parameters(), b = second->Parameters(), c = other->Parameters();
  ASSERT_EQ(a.size(), b.size());
  std::set<std::string> changed;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i].tensor, b[i].tensor)) << a[i].name;
    if (!at::equal(a[i].tensor, c[i].tensor)) changed.insert(a[i].name);
  }
  EXPECT_THAT(changed, IsSupersetOf({"pos_embed", "patch_embed.proj.weight", "blocks.1.attn.qkv.weight", "head.weight",
                                     "objectives.apl.head.weight"}));
}

// One step of AdamW without gradients takes learning rate × weight decay off what decays, and leaves the rest alone.
std::map<std::string, double> WeightsAfterDecay(const Experiment& experiment) {
  const auto task = MakeTask(experiment);
  const auto optimizer = BuildOptimizer(experiment, *TrainedParameters(experiment.trainer(), *task));
  EXPECT_TRUE(optimizer.ok()) << optimizer.status();
  c10::NoGradGuard no_grad;
  for (const NamedParameter& parameter : task->Parameters()) {
    at::Tensor tensor = parameter.tensor;
    tensor.fill_(1);
    tensor.mutable_grad() = at::zeros_like(tensor);
  }
  (*optimizer)->Step(0.5);
  std::map<std::string, double> weights;
  for (const NamedParameter& parameter : task->Parameters()) {
    weights[parameter.name] = parameter.tensor.flatten()[0].item<double>();
    EXPECT_TRUE(at::equal(parameter.tensor, at::full_like(parameter.tensor, weights[parameter.name])));
  }
  return weights;
}

TEST(BuildOptimizerTest, NormsBiasesPositionsAndClassTokensDoNotDecay) {
  Experiment experiment = Tiny();
  std::map<std::string, double> weights = WeightsAfterDecay(experiment);
  *experiment.mutable_pooling() = OfType("graticule.ClassToken");
  weights.merge(WeightsAfterDecay(experiment));
  for (const char* name : {"pos_embed", "cls_token", "norm.weight", "norm.bias", "pos_norms.1.weight",
                           "pos_norms.1.bias", "last_pos_norm.weight", "blocks.0.norm1.weight", "blocks.1.mlp.fc2.bias",
                           "patch_embed.proj.bias", "head.bias", "objectives.apl.head.bias"}) {
    ASSERT_TRUE(weights.contains(name)) << name;
    EXPECT_EQ(weights[name], 1) << name;
  }
  for (const auto& [name, weight] : weights) {
    const bool decays = name.ends_with(".weight") && name.find("norm") == std::string::npos;
    EXPECT_NEAR(weight, decays ? 1 - 0.5 * 0.1 : 1, 1e-6) << name;
  }
}

TEST(BuildOptimizerTest, FixedPositionsAreNotTrained) {
  Experiment experiment = Tiny();
  *experiment.mutable_backbone() =
      Plugin("Vit] { patch_size: 4 embed_dim: 8 depth: 1 num_heads: 2 position: SINUSOID_2D }");
  const auto task = MakeTask(experiment);
  const auto optimizer = BuildOptimizer(experiment, *TrainedParameters(experiment.trainer(), *task));
  ASSERT_TRUE(optimizer.ok()) << optimizer.status();
  std::map<std::string, at::Tensor> before;
  for (const NamedParameter& parameter : task->Parameters()) {
    before[parameter.name] = parameter.tensor.detach().clone();
    at::Tensor(parameter.tensor).mutable_grad() = at::full_like(parameter.tensor, 1).detach();
  }
  (*optimizer)->Step(0.5);
  for (const NamedParameter& parameter : task->Parameters()) {
    EXPECT_EQ(at::equal(parameter.tensor, before[parameter.name]), parameter.name == "pos_embed") << parameter.name;
  }
}

// Sizes of the batches of an epoch.
std::vector<int64_t> BatchSizes(Loader& loader) {
  std::vector<int64_t> sizes;
  loader.Start(0);
  while (true) {
    const auto batch = loader.Next();
    EXPECT_TRUE(batch.ok()) << batch.status();
    if (!batch.ok() || !batch->has_value()) return sizes;
    EXPECT_EQ((*batch)->images.sizes().slice(1), (std::vector<int64_t>{3, 8, 8}));
    sizes.push_back((*batch)->size());
  }
}

TEST(DataPartsTest, TrainingTakesWholePartsAndValidationEveryImage) {
  Experiment experiment = Tiny();
  const auto parts = BuildData(experiment);
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(parts->image_size.height, 8);
  EXPECT_EQ(parts->image_size.width, 8);
  EXPECT_THAT(BatchSizes(*parts->TrainLoader(experiment)), ElementsAre(4, 4, 4));
  EXPECT_THAT(BatchSizes(*parts->EvalLoader(experiment)), ElementsAre(4, 3));
  experiment.mutable_trainer()->set_accumulation_steps(2);
  EXPECT_THAT(BatchSizes(*parts->TrainLoader(experiment)), ElementsAre(2, 2, 2, 2, 2, 2));
  experiment.mutable_data()->set_eval_batch_size(6);
  EXPECT_THAT(BatchSizes(*parts->EvalLoader(experiment)), ElementsAre(6, 1));
}

// Pixels and labels of an epoch, one after the other.
std::vector<at::Tensor> EpochOf(Loader& loader, int64_t epoch) {
  std::vector<at::Tensor> tensors;
  loader.Start(epoch);
  while (true) {
    const auto batch = loader.Next();
    EXPECT_TRUE(batch.ok()) << batch.status();
    if (!batch.ok() || !batch->has_value()) return tensors;
    tensors.insert(tensors.end(), {(*batch)->images, (*batch)->labels});
  }
}

TEST(DataPartsTest, ACacheChangesNoBatch) {
  Experiment experiment = Tiny();
  const auto without = BuildData(experiment);
  ASSERT_TRUE(without.ok()) << without.status();
  experiment.mutable_data()->mutable_cache()->set_kind(Cache::DECODED);
  experiment.mutable_data()->mutable_cache()->set_max_bytes(2000);  // some of the images
  const auto with = BuildData(experiment);
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_NE(dynamic_cast<const CachedDataset*>(with->train.get()), nullptr);
  EXPECT_NE(dynamic_cast<const CachedDataset*>(with->val.get()), nullptr);
  const auto a = without->TrainLoader(experiment), b = with->TrainLoader(experiment);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    const std::vector<at::Tensor> expected = EpochOf(*a, epoch), cached = EpochOf(*b, epoch);
    ASSERT_EQ(expected.size(), cached.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(expected[i], cached[i]));
  }
}

TEST(DataPartsTest, RejectsABadCache) {
  Experiment experiment = Tiny();
  experiment.mutable_data()->mutable_cache()->set_max_bytes(-1);
  experiment.mutable_data()->mutable_cache()->set_kind(static_cast<Cache::Kind>(7));
  const std::string message(BuildData(experiment).status().message());
  EXPECT_THAT(message, HasSubstr("data.cache.max_bytes: must not be negative, found -1"));
  EXPECT_THAT(message, HasSubstr("data.cache.kind: must be NONE, ENCODED or DECODED, found 7"));
}

}  // namespace
}  // namespace graticule
