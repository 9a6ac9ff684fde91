#include "trainer/spec_changes.h"

#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "trainer/spec_test.pb.h"

namespace graticule {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr char kBefore[] = R"pb(
  name: "run"
  backbone {
    [type.googleapis.com/graticule.spec_test.Net] {
      depth: 2
      rate: 0.1
      mode: FAST
      stages { width: 8 }
      pool {
        [type.googleapis.com/graticule.spec_test.Pool] { k: 3 }
      }
      limits { key: "a" value: 1 }
      limits { key: "b" value: 2 }
    }
  }
  data {
    image_size: [ 32, 48 ]
    train_transforms {
      [type.googleapis.com/graticule.spec_test.Crop] { size: 3 }
    }
    threads: 2
  }
  trainer { epochs: 4 learning_rate: 0.001 checkpoint_steps: 10 initial_checkpoint: "old" }
  expected { metric: "val/top1" min: 98 }
)pb";

Experiment Before() {
  Experiment experiment;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(kBefore, &experiment));
  return experiment;
}

std::vector<std::string> Changes(const std::function<void(Experiment&)>& change) {
  Experiment now = Before();
  change(now);
  return SpecChanges(Before(), now);
}

std::vector<std::string> ChangesOfNet(const std::function<void(spec_test::Net&)>& change) {
  return Changes([&](Experiment& experiment) {
    spec_test::Net net;
    EXPECT_TRUE(experiment.backbone().UnpackTo(&net));
    change(net);
    experiment.mutable_backbone()->PackFrom(net);
  });
}

TEST(SpecChangesTest, NothingChangedIsNoChange) {
  EXPECT_THAT(Changes([](Experiment&) {}), IsEmpty());
  EXPECT_THAT(ChangesOfNet([](spec_test::Net&) {}), IsEmpty());
}

TEST(SpecChangesTest, EachFieldIsNamedWithBothValues) {
  EXPECT_THAT(
      Changes([](Experiment& now) {
        now.mutable_trainer()->set_learning_rate(0.0005);
        now.mutable_trainer()->clear_epochs();
        now.mutable_trainer()->set_precision(Trainer::BF16);
        now.mutable_data()->set_image_size(1, 32);
        now.mutable_data()->add_mean(0.5);
        now.mutable_teacher()->set_spec("big");
      }),
      UnorderedElementsAre("trainer.learning_rate was 0.001 and is 0.0005", "trainer.epochs was 4 and is not set",
                           "trainer.precision was not set and is BF16", "data.image_size[1] was 48 and is 32",
                           "data.mean[0] was not set and is 0.5", "teacher was not set and is { spec: \"big\" }"));
}

TEST(SpecChangesTest, PluginsAreOpened) {
  EXPECT_THAT(
      ChangesOfNet([](spec_test::Net& net) {
        net.set_depth(3);
        net.set_rate(0.2f);
        net.set_mode(spec_test::Net::EXACT);
        net.mutable_stages(0)->set_width(9);
        net.add_stages()->set_width(16);
        spec_test::Pool pool;
        pool.set_k(4);
        net.mutable_pool()->PackFrom(pool);
      }),
      UnorderedElementsAre("backbone.depth was 2 and is 3", "backbone.rate was 0.1 and is 0.2",
                           "backbone.mode was FAST and is EXACT", "backbone.stages[0].width was 8 and is 9",
                           "backbone.stages[1] was not set and is { width: 16 }", "backbone.pool.k was 3 and is 4"));
  EXPECT_THAT(ChangesOfNet([](spec_test::Net& net) { (*net.mutable_limits())["b"] = 3; }), testing::SizeIs(1));
}

TEST(SpecChangesTest, PluginsOfTwoTypesAreOneChange) {
  EXPECT_THAT(Changes([](Experiment& now) { now.mutable_backbone()->PackFrom(spec_test::OtherNet()); }),
              ElementsAre("backbone was graticule.spec_test.Net and is graticule.spec_test.OtherNet"));
  EXPECT_THAT(ChangesOfNet([](spec_test::Net& net) { net.mutable_pool()->PackFrom(spec_test::Mean()); }),
              ElementsAre("backbone.pool was graticule.spec_test.Pool and is graticule.spec_test.Mean"));
  EXPECT_THAT(Changes([](Experiment& now) {
                now.mutable_data()->mutable_train_transforms(0)->PackFrom(spec_test::Flip());
                now.mutable_data()->add_train_transforms()->PackFrom(spec_test::Crop());
              }),
              ElementsAre("data.train_transforms[0] was graticule.spec_test.Crop and is graticule.spec_test.Flip",
                          "data.train_transforms[1] was not set and is graticule.spec_test.Crop"));
  EXPECT_THAT(Changes([](Experiment& now) { now.clear_backbone(); }),
              ElementsAre("backbone was graticule.spec_test.Net and is not set"));
}

TEST(SpecChangesTest, WhatIsNotLearntMayChange) {
  EXPECT_THAT(Changes([](Experiment& now) {
                now.set_name("other");
                now.mutable_expected(0)->set_min(90);
                now.mutable_data()->set_threads(8);
                now.mutable_data()->set_max_broken(0.5);
                now.mutable_data()->set_eval_batch_size(7);
                now.mutable_data()->mutable_cache()->set_max_bytes(1);
                Trainer& trainer = *now.mutable_trainer();
                trainer.set_log_interval(1);
                trainer.set_eval_interval(2);
                trainer.set_checkpoint_interval(3);
                trainer.clear_checkpoint_steps();
                trainer.set_checkpoint_minutes(5);
                trainer.set_keep_checkpoints(6);
                trainer.set_keep_every_steps(7);
                trainer.set_on_save_error(Trainer::STOP);
                trainer.add_sinks();
                trainer.mutable_guard()->set_stall_minutes(8);
                trainer.mutable_distributed()->set_timeout_seconds(9);
                trainer.set_threads(10);
                trainer.set_device(Trainer::CUDA);
                trainer.set_best_metric("val/loss");
                trainer.set_initial_checkpoint("new");
                trainer.set_initial_ema(true);
              }),
              IsEmpty());
}

}  // namespace
}  // namespace graticule
