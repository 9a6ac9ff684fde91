#include "trainer/spec.h"

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "plugin/file.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/experiment.pb.h"
#include "trainer/spec_test.pb.h"

namespace graticule {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The kinds of the experiment's slots, without what real plugins do.
struct Kind {
  struct Context {};
};
struct FakeBackbone : Kind {
  static constexpr char kKind[] = "backbone";
};
struct FakePooling : Kind {
  static constexpr char kKind[] = "pooling";
};
struct FakeTransform : Kind {
  static constexpr char kKind[] = "transform";
};
struct FakeObjective : Kind {
  static constexpr char kKind[] = "objective";
};

template <typename Fake, typename Config>
absl::StatusOr<std::unique_ptr<Fake>> Make(const Config&, const Kind::Context&) {
  return std::make_unique<Fake>();
}

template <typename Fake, typename Config>
using Fakes = Registration<Fake, Config>;

const Fakes<FakeBackbone, spec_test::Net> kNet("", "", &Make<FakeBackbone, spec_test::Net>);
const Fakes<FakeBackbone, spec_test::OtherNet> kOtherNet("", "", &Make<FakeBackbone, spec_test::OtherNet>);
const Fakes<FakePooling, spec_test::Pool> kPool("", "", &Make<FakePooling, spec_test::Pool>);
const Fakes<FakePooling, spec_test::Mean> kMean("", "", &Make<FakePooling, spec_test::Mean>);
const Fakes<FakeTransform, spec_test::Crop> kCrop("", "", &Make<FakeTransform, spec_test::Crop>);
const Fakes<FakeTransform, spec_test::Flip> kFlip("", "", &Make<FakeTransform, spec_test::Flip>);
const Fakes<FakeObjective, spec_test::Label> kLabel("", "", &Make<FakeObjective, spec_test::Label>);

// "@Net" in the texts of these tests is a plugin's type.
std::string Expand(std::string_view text) {
  return absl::StrReplaceAll(std::string(text), {{"@", "type.googleapis.com/graticule.spec_test."}});
}

class SpecTest : public testing::Test {
 protected:
  SpecTest()
      : folder_(absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(folder_);
    std::filesystem::current_path(folder_);
  }

  static void Write(const std::string& file, std::string_view text) {
    const std::filesystem::path folder = std::filesystem::path(file).parent_path();
    if (!folder.empty()) std::filesystem::create_directories(folder);
    ASSERT_TRUE(WriteFile(file, Expand(text)).ok());
  }

  static std::vector<std::string> Expanded(std::vector<std::string> overrides) {
    for (std::string& override : overrides) override = Expand(override);
    return overrides;
  }

  // The experiment of a text without errors.
  static Experiment Read(std::string_view text, const std::vector<std::string>& overrides = {}) {
    Write("a.textproto", text);
    return ReadFiles(overrides);
  }
  static Experiment ReadFiles(const std::vector<std::string>& overrides = {}) {
    const absl::StatusOr<Spec> spec = Spec::Load("a.textproto", Expanded(overrides));
    EXPECT_TRUE(spec.ok()) << spec.status();
    return spec.ok() ? spec->experiment() : Experiment();
  }

  static std::vector<std::string> Errors(std::string_view text, const std::vector<std::string>& overrides = {}) {
    Write("a.textproto", text);
    return Spec::LoadPartially("a.textproto", Expanded(overrides)).errors;
  }

  // The errors of a backbone's config that starts at line 1, column 1.
  static std::vector<std::string> NetErrors(std::string_view config) {
    return Errors(absl::StrCat("backbone { [@Net] {\n", std::string(config), "\n} }"));
  }

  template <typename Config>
  static Config Unpack(const google::protobuf::Any& any) {
    Config config;
    EXPECT_TRUE(any.UnpackTo(&config)) << any.type_url();
    return config;
  }
  static spec_test::Net Net(const Experiment& experiment) { return Unpack<spec_test::Net>(experiment.backbone()); }

 private:
  const std::filesystem::path folder_;
};

// ---- Reading
// ----------------------------------------------------------------------------------------------------------

TEST_F(SpecTest, ReadsEveryTypeOfField) {
  const Experiment experiment = Read(R"(
      name: "run"
      backbone {
        [@Net] {
          depth: -6, heads: 4; seed: -9000000000
          rate: 5e-4 scale: 1 bias: true note: "a\"b" 'c' mode: EXACT
          stem { width: 8 strides: 2 strides: [1, 3] }
          stages { width: 16 } stages: [{ width: 32 }, < width: 64 >]
          tags: ["x", "y"]
          pool { [@Pool] { k: 3 } }
          extra { [@Flip] { probability: 0.25 } }
          patches: 7
          momentum: -inf
          limits { key: "a" value: 1 }
        }
      }
      objectives { weight: 0.5 objective { [@Label] { hidden: 5 } } }
      data { image_size: 32 image_size: 48 }
      trainer: { epochs: 0x10 precision: BF16 }
  )");
  EXPECT_EQ(experiment.name(), "run");
  const spec_test::Net net = Net(experiment);
  EXPECT_EQ(net.depth(), -6);
  EXPECT_EQ(net.heads(), 4);
  EXPECT_EQ(net.seed(), -9000000000);
  EXPECT_EQ(net.rate(), 5e-4f);
  EXPECT_EQ(net.scale(), 1.0);
  EXPECT_TRUE(net.bias());
  EXPECT_EQ(net.note(), "a\"bc");
  EXPECT_EQ(net.mode(), spec_test::Net::EXACT);
  EXPECT_EQ(net.stem().width(), 8);
  EXPECT_THAT(net.stem().strides(), ElementsAre(2, 1, 3));
  ASSERT_EQ(net.stages_size(), 3);
  EXPECT_EQ(net.stages(2).width(), 64);
  EXPECT_THAT(net.tags(), ElementsAre("x", "y"));
  EXPECT_EQ(Unpack<spec_test::Pool>(net.pool()).k(), 3);
  EXPECT_EQ(Unpack<spec_test::Flip>(net.extra()).probability(), 0.25f);
  EXPECT_EQ(net.patches(), 7);
  EXPECT_EQ(net.momentum(), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(net.limits().at("a"), 1);
  EXPECT_EQ(Unpack<spec_test::Label>(experiment.objectives(0).objective()).hidden(), 5);
  EXPECT_THAT(experiment.data().image_size(), ElementsAre(32, 48));
  EXPECT_EQ(experiment.trainer().epochs(), 16);
  EXPECT_EQ(experiment.trainer().precision(), Trainer::BF16);
}

TEST_F(SpecTest, TheNameIsTheFilesUnlessGiven) {
  Write("folder/tiny_mpvg.textproto", "trainer { epochs: 1 }");
  EXPECT_EQ(Spec::Load("folder/tiny_mpvg.textproto")->experiment().name(), "tiny_mpvg");
  EXPECT_EQ(Spec::Load("folder/tiny_mpvg.textproto", {"name=other"})->experiment().name(), "other");
}

TEST_F(SpecTest, AFileThatIsNotThereIsOneError) {
  EXPECT_EQ(std::string(Spec::Load("nowhere.textproto").status().message()),
            "cannot read 'nowhere.textproto': No such file or directory");
  std::filesystem::create_directory("folder");
  EXPECT_THAT(std::string(Spec::Load("folder").status().message()), HasSubstr("'folder'"));
}

TEST_F(SpecTest, PrintsWhatItReads) {
  const Experiment experiment = Read(R"(
      name: "run ä"
      backbone { [@Net] {
          rate: 0.0005 scale: 0.1 depth: -1 mode: FAST stages {} pool { [@Pool] { k: 3 } } pixels: 3 note: "\001\"" } }
      data {
        image_size: [32, 48] mean: [0.485, 0.456, 0.406]
        train_transforms { [@Flip] { probability: 0.3 } } train_transforms { [@Crop] {} }
      }
      trainer { learning_rate: 0.0005 device: CPU }
      expected { metric: "val/top1" min: 98 }
  )");
  const std::string text = PrintExperiment(experiment);
  EXPECT_THAT(text, HasSubstr(Expand("[@Net] {")));
  EXPECT_THAT(text, HasSubstr("rate: 0.0005\n"));
  EXPECT_THAT(text, HasSubstr("mean: [0.485, 0.456, 0.406]\n"));
  EXPECT_THAT(text, HasSubstr("name: \"run ä\"\n"));
  const Experiment again = Read(text);
  EXPECT_TRUE(MessageDifferencer::Equals(again, experiment)) << text;
}

// ---- Errors
// -----------------------------------------------------------------------------------------------------------

TEST_F(SpecTest, FiveMistakesAreFiveErrors) {
  EXPECT_THAT(
      Errors(R"(backbone {
  [@Nett] { depth: 1 }
}
pooling { [@Pool] { kk: 1 } }
trainer {
  epochs: "six"
  precision: FP23
  bach_size: 3
}
)"),
      ElementsAre("a.textproto:2:3: backbone: unknown backbone 'graticule.spec_test.Nett'; did you mean "
                  "'graticule.spec_test.Net'? Registered: graticule.spec_test.Net, "
                  "graticule.spec_test.OtherNet; a plugin of your own goes into the deps of your binary",
                  "a.textproto:4:60: pooling.kk: unknown field of graticule.spec_test.Pool; did you mean "
                  "'k'? Fields: k",
                  "a.textproto:6:11: trainer.epochs: expected an integer, found \"six\"",
                  "a.textproto:7:14: trainer.precision: unknown value FP23; did you mean 'FP32'? Allowed: FP32, "
                  "BF16, FP16",
                  HasSubstr("a.textproto:8:3: trainer.bach_size: unknown field of graticule.Trainer; did you mean "
                            "'batch_size'? Fields: epochs, batch_size, ")));
}

TEST_F(SpecTest, LoadPutsAllErrorsIntoOneStatus) {
  Write("a.textproto", "trainer { epochs: six }\nfoo: 1");
  const absl::Status status = Spec::Load("a.textproto").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::StartsWith("a.textproto:1:19: trainer.epochs: expected an integer, found six\n"
                                  "a.textproto:2:1: foo: unknown field of graticule.Experiment. Fields: base, "));
}

TEST_F(SpecTest, WrongScalars) {
  EXPECT_THAT(NetErrors("depth: 1.5"), ElementsAre("a.textproto:2:8: backbone.depth: expected an integer, found 1.5"));
  EXPECT_THAT(NetErrors("depth: 6x"), ElementsAre("a.textproto:2:8: backbone.depth: expected an integer, found 6x"));
  EXPECT_THAT(NetErrors("depth: true"),
              ElementsAre("a.textproto:2:8: backbone.depth: expected an integer, found true"));
  EXPECT_THAT(NetErrors("depth { }"),
              ElementsAre("a.textproto:2:7: backbone.depth: expected an integer, found a message"));
  EXPECT_THAT(NetErrors("rate: \"1\""), ElementsAre("a.textproto:2:7: backbone.rate: expected a number, found \"1\""));
  EXPECT_THAT(NetErrors("bias: 2"), ElementsAre("a.textproto:2:7: backbone.bias: expected true or false, found 2"));
  EXPECT_THAT(NetErrors("note: abc"),
              ElementsAre("a.textproto:2:7: backbone.note: expected a string in quotes, found abc"));
  EXPECT_THAT(NetErrors("note: 7"),
              ElementsAre("a.textproto:2:7: backbone.note: expected a string in quotes, found 7"));
  EXPECT_THAT(NetErrors("note: \"\\xff\""),
              ElementsAre("a.textproto:2:7: backbone.note: expected UTF-8, found other bytes"));
}

TEST_F(SpecTest, NumbersOutOfRange) {
  EXPECT_THAT(NetErrors("depth: 2147483648"),
              ElementsAre("a.textproto:2:8: backbone.depth: expected an integer from -2147483648 to 2147483647, found "
                          "2147483648"));
  EXPECT_THAT(NetErrors("heads: -1"),
              ElementsAre("a.textproto:2:8: backbone.heads: expected an integer from 0 to 4294967295, found -1"));
  EXPECT_THAT(NetErrors("seed: 9223372036854775808"),
              ElementsAre("a.textproto:2:7: backbone.seed: expected an integer from -9223372036854775808 to "
                          "9223372036854775807, found 9223372036854775808"));
  EXPECT_THAT(NetErrors("rate: 1e39"),
              ElementsAre("a.textproto:2:7: backbone.rate: expected a number that a float holds, found 1e39"));
  EXPECT_THAT(NetErrors("scale: -1e309"),
              ElementsAre("a.textproto:2:8: backbone.scale: expected a number that a double holds, found -1e309"));
}

TEST_F(SpecTest, WrongEnums) {
  EXPECT_THAT(
      NetErrors("mode: fast"),
      ElementsAre("a.textproto:2:7: backbone.mode: unknown value fast; did you mean 'FAST'? Allowed: FAST, EXACT"));
  EXPECT_THAT(NetErrors("mode: SLOPPY"),
              ElementsAre("a.textproto:2:7: backbone.mode: unknown value SLOPPY. Allowed: FAST, EXACT"));
  EXPECT_THAT(NetErrors("mode: 1"),
              ElementsAre("a.textproto:2:7: backbone.mode: expected one of FAST, EXACT, found 1"));
  EXPECT_THAT(NetErrors("mode: \"FAST\""),
              ElementsAre("a.textproto:2:7: backbone.mode: expected one of FAST, EXACT, found \"FAST\""));
}

TEST_F(SpecTest, FieldsGivenTwice) {
  EXPECT_THAT(NetErrors("depth: 1\ndepth: 2"),
              ElementsAre("a.textproto:3:1: backbone.depth: is given twice, first at a.textproto:2:1"));
  EXPECT_THAT(NetErrors("stem {}\nstem {}"),
              ElementsAre("a.textproto:3:1: backbone.stem: is given twice, first at a.textproto:2:1"));
  EXPECT_THAT(NetErrors("pixels: 1\npatches: 2"),
              ElementsAre("a.textproto:3:1: backbone.patches: excludes pixels, given at a.textproto:2:1"));
}

TEST_F(SpecTest, WrongShapes) {
  EXPECT_THAT(NetErrors("depth: [1, 2]"),
              ElementsAre("a.textproto:2:1: backbone.depth: expected an integer, found a list"));
  EXPECT_THAT(NetErrors("stem: 3"),
              ElementsAre("a.textproto:2:7: backbone.stem: expected a message, { ... }, found 3"));
  EXPECT_THAT(NetErrors("stages: [{}, 3]"),
              ElementsAre("a.textproto:2:14: backbone.stages[1]: expected a message, { ... }, found 3"));
  EXPECT_THAT(NetErrors("stages { width: 1 strides: [1, x] }"),
              ElementsAre("a.textproto:2:32: backbone.stages[0].strides[1]: expected an integer, found x"));
  EXPECT_THAT(
      NetErrors("[@Pool] {}"),
      ElementsAre(HasSubstr(Expand("a.textproto:2:1: backbone: expected a field of graticule.spec_test.Net, found "
                                   "[@Pool]. Fields: depth, "))));
}

TEST_F(SpecTest, WrongPlugins) {
  EXPECT_THAT(Errors("backbone { [@Pool] {} }"),
              ElementsAre("a.textproto:1:12: backbone: 'graticule.spec_test.Pool' is a plugin of kind pooling, not "
                          "backbone. Registered: graticule.spec_test.Net, graticule.spec_test.OtherNet"));
  EXPECT_THAT(NetErrors("pool { [@Net] {} }"),
              ElementsAre(HasSubstr("a.textproto:2:8: backbone.pool: 'graticule.spec_test.Net' is a plugin of kind "
                                    "backbone, not pooling")));
  EXPECT_THAT(NetErrors("pool {\n [@Pool] {\n k: x } }"),
              ElementsAre("a.textproto:4:5: backbone.pool.k: expected an integer, found x"));
  EXPECT_THAT(NetErrors("extra { [type.googleapis.com/no.Such] {} }"),
              ElementsAre("a.textproto:2:9: backbone.extra: unknown type 'no.Such'"));
  EXPECT_THAT(Errors("backbone { depth: 6 }"),
              ElementsAre("a.textproto:1:12: backbone: expected one plugin, [type.googleapis.com/NAME] { ... }, found "
                          "'depth'. Registered: graticule.spec_test.Net, graticule.spec_test.OtherNet"));
  EXPECT_THAT(Errors("backbone { }"), ElementsAre(HasSubstr("a.textproto:1:10: backbone: expected one plugin, ")));
  EXPECT_THAT(
      Errors("backbone { [@Net] {}\n [@OtherNet] {} }"),
      ElementsAre(HasSubstr("a.textproto:2:2: backbone: expected one plugin, [type.googleapis.com/NAME] { ... }, "
                            "found another one")));
  EXPECT_THAT(Errors("backbone { [graticule.spec_test.Net] {} }"),
              ElementsAre("a.textproto:1:12: backbone: a plugin is written [type.googleapis.com/NAME], found "
                          "[graticule.spec_test.Net]"));
  EXPECT_THAT(Errors("backbone { [@Net]: 3 }"),
              ElementsAre(Expand("a.textproto:1:12: backbone: expected { ... } after [@Net]")));
  EXPECT_THAT(
      Errors("data { train_transforms { [@Crop] {} } train_transforms { [@Pool] {} } }"),
      ElementsAre(HasSubstr(": data.train_transforms[1]: 'graticule.spec_test.Pool' is a plugin of kind pooling")));
}

TEST_F(SpecTest, SyntaxErrorsAndWrongFieldsComeInTheOrderOfTheFile) {
  EXPECT_THAT(Errors("trainer { epochs: x }\n!\ndata { threads: y }"),
              ElementsAre("a.textproto:1:19: trainer.epochs: expected an integer, found x",
                          "a.textproto:2:1: expected a field's name, found '!'",
                          "a.textproto:3:17: data.threads: expected an integer, found y"));
}

// ---- Inheritance
// ------------------------------------------------------------------------------------------------------

TEST_F(SpecTest, AChildMergesWithItsBase) {
  Write("base/b.textproto", R"(
      backbone { [@Net] { depth: 2 heads: 3 stages { width: 1 } stages { width: 2 } stem { width: 4 strides: [1, 2] } } }
      pooling { [@Pool] { k: 1 } }
      objectives { weight: 1 } objectives { weight: 2 }
      trainer { epochs: 5 batch_size: 6 }
      data { image_size: [8, 9] })");
  const Experiment experiment = Read(R"(
      base: "base/b.textproto"
      backbone { [@Net] { depth: 7 stages { width: 9 } stem { strides: 3 } } }
      pooling { [@Mean] {} }
      objectives { name: "x" }
      trainer { epochs: 8 })");
  const spec_test::Net net = Net(experiment);
  EXPECT_EQ(net.depth(), 7);
  EXPECT_EQ(net.heads(), 3);
  ASSERT_EQ(net.stages_size(), 1);
  EXPECT_EQ(net.stages(0).width(), 9);
  EXPECT_EQ(net.stem().width(), 4);
  EXPECT_THAT(net.stem().strides(), ElementsAre(3));
  EXPECT_TRUE(experiment.pooling().Is<spec_test::Mean>());
  ASSERT_EQ(experiment.objectives_size(), 1);
  EXPECT_FALSE(experiment.objectives(0).has_weight());
  EXPECT_EQ(experiment.trainer().epochs(), 8);
  EXPECT_EQ(experiment.trainer().batch_size(), 6);
  EXPECT_THAT(experiment.data().image_size(), ElementsAre(8, 9));
  EXPECT_EQ(experiment.base_size(), 0);
}

TEST_F(SpecTest, BasesComeInOrderAndFromTheFoldersOfThoseWhoNameThem) {
  Write("base/first.textproto", "base: \"deep/zero.textproto\" trainer { epochs: 1 batch_size: 1 }");
  Write("base/deep/zero.textproto", "trainer { epochs: 9 seed: 4 }");
  Write("base/second.textproto", "trainer { batch_size: 2 }");
  const Experiment experiment = Read("base: [\"base/first.textproto\", \"base/second.textproto\"]");
  EXPECT_EQ(experiment.trainer().epochs(), 1);
  EXPECT_EQ(experiment.trainer().batch_size(), 2);
  EXPECT_EQ(experiment.trainer().seed(), 4);
}

TEST_F(SpecTest, ErrorsOfABaseHaveItsPlace) {
  Write("base/b.textproto", "\ntrainer { epochs: x }");
  EXPECT_THAT(Errors("base: \"base/b.textproto\"\ntrainer { seed: y }"),
              ElementsAre("a.textproto:2:17: trainer.seed: expected an integer, found y",
                          "base/b.textproto:2:19: trainer.epochs: expected an integer, found x"));
}

TEST_F(SpecTest, AMissingBaseIsAnErrorAtItsName) {
  EXPECT_THAT(Errors("base: [\"b.textproto\",\n \"c.textproto\"]"),
              ElementsAre("a.textproto:1:8: base: cannot read 'b.textproto': No such file or directory",
                          "a.textproto:2:2: base: cannot read 'c.textproto': No such file or directory"));
  EXPECT_THAT(Errors("base: 3"), ElementsAre("a.textproto:1:7: base[0]: expected a string in quotes, found 3"));
}

TEST_F(SpecTest, ACycleIsNamed) {
  Write("b.textproto", "base: \"c.textproto\"");
  Write("c.textproto", "base: \"./a.textproto\"");
  EXPECT_THAT(
      Errors("base: \"b.textproto\""),
      ElementsAre("c.textproto:1:7: base: a spec inherits from itself: a.textproto -> b.textproto -> c.textproto "
                  "-> a.textproto"));
}

TEST_F(SpecTest, ABaseOfTwoSpecsIsReadTwiceAndItsErrorsSaidOnce) {
  Write("root.textproto", "trainer { epochs: x }");
  Write("b.textproto", "base: \"root.textproto\"");
  Write("c.textproto", "base: \"root.textproto\"");
  EXPECT_THAT(Errors("base: [\"b.textproto\", \"c.textproto\"]"),
              ElementsAre("root.textproto:1:19: trainer.epochs: expected an integer, found x"));
}

// ---- Overrides
// --------------------------------------------------------------------------------------------------------

constexpr char kFull[] = R"(
    backbone { [@Net] { depth: 2 heads: 3 stages { width: 1 } stages { width: 2 } pool { [@Pool] { k: 1 } } tags: "a" } }
    pooling { [@Pool] { k: 1 } }
    objectives { weight: 1 objective { [@Label] { hidden: 2 } } }
    data { image_size: [8, 9] train_transforms { [@Crop] { size: 3 } } }
    trainer { epochs: 5 batch_size: 6 })";

TEST_F(SpecTest, OverridesReachThroughPluginsAndLists) {
  const Experiment experiment = Read(
      kFull, {"backbone.depth=6", "backbone.mode=EXACT", "backbone.stages[1].width=5", "backbone.stages.0.width=4",
              "backbone.pool.k=7", "objectives[0].objective.hidden=9", "objectives.0.weight=0.25",
              "data.train_transforms[0].size=11", "trainer.epochs=-1", "data.image_size[1]=10", "backbone.bias=true"});
  const spec_test::Net net = Net(experiment);
  EXPECT_EQ(net.depth(), 6);
  EXPECT_EQ(net.heads(), 3);
  EXPECT_TRUE(net.bias());
  EXPECT_EQ(net.mode(), spec_test::Net::EXACT);
  EXPECT_EQ(net.stages(0).width(), 4);
  EXPECT_EQ(net.stages(1).width(), 5);
  EXPECT_EQ(Unpack<spec_test::Pool>(net.pool()).k(), 7);
  EXPECT_EQ(Unpack<spec_test::Label>(experiment.objectives(0).objective()).hidden(), 9);
  EXPECT_EQ(experiment.objectives(0).weight(), 0.25);
  EXPECT_EQ(Unpack<spec_test::Crop>(experiment.data().train_transforms(0)).size(), 11);
  EXPECT_EQ(experiment.trainer().epochs(), -1);
  EXPECT_THAT(experiment.data().image_size(), ElementsAre(8, 10));
}

TEST_F(SpecTest, OverridesTakeWholeMessages) {
  for (const char* value : {"pooling=[@Mean] {}", "pooling={[@Mean] {}}", "pooling=<[@Mean] <>>"}) {
    EXPECT_TRUE(Read(kFull, {value}).pooling().Is<spec_test::Mean>()) << value;
  }
  for (const char* value : {"trainer={epochs: 3}", "trainer=epochs: 3", "trainer=epochs: 3 # three"}) {
    const Experiment experiment = Read(kFull, {value});
    EXPECT_EQ(experiment.trainer().epochs(), 3) << value;
    EXPECT_EQ(experiment.trainer().batch_size(), 6) << value;
  }
  EXPECT_EQ(Net(Read(kFull, {"backbone=[@Net] { heads: 4 }"})).depth(), 2);
}

TEST_F(SpecTest, OverridesOfListsReplaceThem) {
  EXPECT_THAT(Read(kFull, {"data.image_size=[32, 33]"}).data().image_size(), ElementsAre(32, 33));
  EXPECT_THAT(Read(kFull, {"data.image_size=32"}).data().image_size(), ElementsAre(32));
  EXPECT_THAT(Read(kFull, {"data.image_size=[]"}).data().image_size(), IsEmpty());
  EXPECT_THAT(Net(Read(kFull, {"backbone.tags=[\"x\", 'y']"})).tags(), ElementsAre("x", "y"));
  EXPECT_THAT(Net(Read(kFull, {"backbone.tags=x y"})).tags(), ElementsAre("x y"));
  const Experiment one = Read(kFull, {"data.train_transforms=[@Flip] {}"});
  ASSERT_EQ(one.data().train_transforms_size(), 1);
  EXPECT_TRUE(one.data().train_transforms(0).Is<spec_test::Flip>());
  const Experiment two = Read(kFull, {"data.train_transforms=[{[@Flip] {}}, {[@Crop] {}}]"});
  ASSERT_EQ(two.data().train_transforms_size(), 2);
  EXPECT_TRUE(two.data().train_transforms(1).Is<spec_test::Crop>());
  EXPECT_THAT(Read(kFull, {"objectives=[]"}).objectives(), IsEmpty());
}

TEST_F(SpecTest, AnIndexBehindTheLastAppends) {
  EXPECT_THAT(Read(kFull, {"data.image_size[2]=4"}).data().image_size(), ElementsAre(8, 9, 4));
  const Experiment experiment =
      Read(kFull, {"objectives[1].weight=3", "objectives[1].objective=[@Label] { hidden: 8 }",
                   "data.train_transforms[1]=[@Flip] { probability: 0.5 }", "objectives[2]={weight: 4}"});
  ASSERT_EQ(experiment.objectives_size(), 3);
  EXPECT_EQ(experiment.objectives(1).weight(), 3);
  EXPECT_EQ(Unpack<spec_test::Label>(experiment.objectives(1).objective()).hidden(), 8);
  EXPECT_EQ(experiment.objectives(2).weight(), 4);
  EXPECT_EQ(Unpack<spec_test::Flip>(experiment.data().train_transforms(1)).probability(), 0.5f);
}

TEST_F(SpecTest, OverridesOfStringsNeedNoQuotes) {
  EXPECT_EQ(Read(kFull, {"name=my run, 7%"}).name(), "my run, 7%");
  EXPECT_EQ(Read(kFull, {"name=\"my run\""}).name(), "my run");
  EXPECT_EQ(Read(kFull, {"trainer.initial_checkpoint=/a/b=c/d"}).trainer().initial_checkpoint(), "/a/b=c/d");
}

TEST_F(SpecTest, WrongOverrides) {
  const auto errors = [](const std::string& override) { return Errors(kFull, {override}); };
  EXPECT_THAT(
      errors("backbone.dpth=6"),
      ElementsAre(HasSubstr("--set backbone.dpth=6: backbone.dpth: unknown field of graticule.spec_test.Net; did "
                            "you mean 'depth'? Fields: depth, ")));
  EXPECT_THAT(
      errors("trianer.epochs=6"),
      ElementsAre(HasSubstr("--set trianer.epochs=6: trianer: unknown field of graticule.Experiment; did you mean "
                            "'trainer'? Fields: base, ")));
  EXPECT_THAT(errors("trainer.epochs=six"),
              ElementsAre("--set trainer.epochs=six: trainer.epochs: expected an integer, found six"));
  EXPECT_THAT(errors("trainer.epochs="),
              ElementsAre("--set trainer.epochs=: trainer.epochs: expected an integer, found nothing"));
  EXPECT_THAT(errors("trainer= "), ElementsAre(HasSubstr("trainer: expected a message, { ... }, found nothing")));
  EXPECT_THAT(errors("trainer.precision=FP23"),
              ElementsAre("--set trainer.precision=FP23: trainer.precision: unknown value FP23; did you mean 'FP32'? "
                          "Allowed: FP32, BF16, FP16"));
  EXPECT_THAT(errors("trainer={epoch: 3}"),
              ElementsAre(HasSubstr("--set trainer={epoch: 3}: column 10: trainer.epoch: unknown field of "
                                    "graticule.Trainer; did you mean 'epochs'?")));
  EXPECT_THAT(errors("trainer={epochs: 3"),
              ElementsAre("--set trainer={epochs: 3: column 9: trainer: '{' is never closed"));
  EXPECT_THAT(errors("trainer.epochs=3 seed: 4"),
              ElementsAre("--set trainer.epochs=3 seed: 4: column 18: trainer.epochs: expected one value, found more "
                          "behind it"));
  EXPECT_THAT(errors("trainer"), ElementsAre("--set trainer: expected path=value"));
  EXPECT_THAT(errors("trainer.epochs.x=1"),
              ElementsAre("--set trainer.epochs.x=1: trainer.epochs: is no message, so it has no 'x'"));
  EXPECT_THAT(errors("objectives.weight=1"),
              ElementsAre("--set objectives.weight=1: objectives: expected an index from 0 to 1 (1 appends), found "
                          "'weight'"));
  EXPECT_THAT(errors("objectives[2].weight=1"), ElementsAre(HasSubstr("(1 appends), found '2'")));
  EXPECT_THAT(errors("data.image_size[0]=[1, 2]"),
              ElementsAre("--set data.image_size[0]=[1, 2]: data.image_size[0]: expected an integer, found a list"));
  EXPECT_THAT(errors("data.image_size[0].x=1"), ElementsAre(HasSubstr("data.image_size[0]: is no message")));
  EXPECT_THAT(errors("objectives[0]=3"), ElementsAre(HasSubstr("objectives[0]: ")));
  EXPECT_THAT(errors("pooling=[@Men] {}"),
              ElementsAre(HasSubstr("pooling: unknown pooling 'graticule.spec_test.Men'; did you mean "
                                    "'graticule.spec_test.Mean'?")));
  EXPECT_THAT(errors("task.label_smoothing=1"),
              ElementsAre("--set task.label_smoothing=1: task: holds no plugin yet; choose it by "
                          "task=NAME"));
  EXPECT_THAT(errors("base=b.textproto"),
              ElementsAre("--set base=b.textproto: base: only a file says what it inherits from"));
}

TEST_F(SpecTest, OverridesChoosePluginsByTheirNames) {
  for (const char* name : {"pooling=Mean", "pooling=graticule.spec_test.Mean", "pooling= Mean "}) {
    EXPECT_TRUE(Read(kFull, {name}).pooling().Is<spec_test::Mean>()) << name;
  }
  // One of the same type keeps its config, as from a file.
  EXPECT_EQ(Net(Read(kFull, {"backbone=Net"})).depth(), 2);
  EXPECT_TRUE(Net(Read(kFull, {"backbone.pool=Mean"})).pool().Is<spec_test::Mean>());
  EXPECT_TRUE(Read(kFull, {"data.train_transforms[1]=Flip"}).data().train_transforms(1).Is<spec_test::Flip>());
  EXPECT_EQ(Read(kFull, {"data.train_transforms=Flip"}).data().train_transforms_size(), 1);
  EXPECT_THAT(Errors(kFull, {"pooling=Maen"}),
              ElementsAre("--set pooling=Maen: pooling: unknown pooling 'Maen'; did you mean 'Mean'? Registered: Mean, "
                          "Pool"));
  EXPECT_THAT(Errors(kFull, {"pooling=Net"}),
              ElementsAre("--set pooling=Net: pooling: unknown pooling 'Net'. Registered: Mean, Pool"));
}

TEST_F(SpecTest, OverridesThatLackTheFirstPartOfThePathAreToldIt) {
  const auto errors = [](const std::string& override) { return Errors(kFull, {override}); };
  EXPECT_THAT(errors("epochs=3"), ElementsAre("--set epochs=3: epochs: unknown field of graticule.Experiment; did you "
                                              "mean 'trainer.epochs'?"));
  EXPECT_THAT(errors("depth=3"), ElementsAre(HasSubstr("; did you mean 'backbone.depth'?")));
  EXPECT_THAT(errors("backbone.k=3"), ElementsAre("--set backbone.k=3: backbone.k: unknown field of "
                                                  "graticule.spec_test.Net; did you mean 'backbone.pool.k'?"));
  EXPECT_THAT(errors("width=3"),
              ElementsAre(HasSubstr("did you mean 'backbone.stem.width', 'backbone.stages[0].width', "
                                    "'backbone.stages[1].width'?")));
  // What it would have set is not missed.
  Write("a.textproto", "name: \"a\"");
  const Spec::Partial partial = Spec::LoadPartially("a.textproto", {"epochs=3"});
  EXPECT_THAT(partial.errors, ElementsAre(HasSubstr("'trainer.epochs'")));
  FieldErrors missing;
  missing.Add("trainer.epochs", "must be positive");
  EXPECT_THAT(partial.spec.Locate(missing.ToStatus()), IsEmpty());
}

TEST_F(SpecTest, AllWrongOverridesAreReportedBehindTheFilesErrors) {
  EXPECT_THAT(Errors("trainer { seed: x }", {"trainer.epochs=y", "trainer.threads=z"}),
              ElementsAre("a.textproto:1:17: trainer.seed: expected an integer, found x",
                          "--set trainer.epochs=y: trainer.epochs: expected an integer, found y",
                          "--set trainer.threads=z: trainer.threads: expected an integer, found z"));
}

// ---- Places
// -----------------------------------------------------------------------------------------------------------

absl::Status ErrorAt(const std::string& path) {
  FieldErrors errors;
  errors.Add(path, "is bad");
  return errors.ToStatus();
}

TEST_F(SpecTest, LocatesFieldsInsidePlugins) {
  Write("a.textproto", R"(backbone {
  [@Net] {
    depth: 2
    stages { width: 1 strides: [1,
      2] }
    pool { [@Pool] {
      k: 1 } }
  }
}
objectives {}
objectives { objective { [@Label] { hidden: 3 } } }
)");
  const absl::StatusOr<Spec> spec = Spec::Load("a.textproto", {"trainer.epochs=3", "trainer={seed: 4}"});
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto locate = [&](const std::string& path) { return spec->Locate(ErrorAt(path))[0]; };
  EXPECT_EQ(locate("backbone.depth"), "a.textproto:3:5: backbone.depth: is bad");
  EXPECT_EQ(locate("backbone.stages[0].width"), "a.textproto:4:14: backbone.stages[0].width: is bad");
  EXPECT_EQ(locate("backbone.stages[0].strides[1]"), "a.textproto:5:7: backbone.stages[0].strides[1]: is bad");
  EXPECT_EQ(locate("backbone.pool.k"), "a.textproto:7:7: backbone.pool.k: is bad");
  EXPECT_EQ(locate("objectives[1].objective.hidden"), "a.textproto:11:76: objectives[1].objective.hidden: is bad");
  EXPECT_EQ(locate("trainer.epochs"), "--set trainer.epochs=3: trainer.epochs: is bad");
  EXPECT_EQ(locate("trainer.seed"), "--set trainer={seed: 4}: column 10: trainer.seed: is bad");
  // What is not set has the place of what encloses it.
  EXPECT_EQ(locate("backbone.heads"), "a.textproto:1:1: backbone.heads: is bad");
  EXPECT_EQ(locate("backbone.pool.size.x"), "a.textproto:6:5: backbone.pool.size.x: is bad");
  EXPECT_EQ(locate("data.threads"), "a.textproto: data.threads: is bad");
  EXPECT_EQ(locate(""), "a.textproto: is bad");
}

TEST_F(SpecTest, LocatesEachErrorUnderAPrefix) {
  Write("a.textproto", "backbone { [@Net] {\ndepth: 2\nheads: 3 } }");
  FieldErrors errors;
  errors.Add("depth", "is bad");
  errors.Add("heads", "is worse");
  EXPECT_THAT(Spec::Load("a.textproto")->Locate(errors.ToStatus(), "backbone"),
              ElementsAre("a.textproto:2:1: backbone.depth: is bad", "a.textproto:3:1: backbone.heads: is worse"));
  EXPECT_THAT(Spec::Load("a.textproto")->Locate(absl::OkStatus()), IsEmpty());
  EXPECT_THAT(Spec::Load("a.textproto")->Locate(absl::InternalError("broke"), "backbone"),
              ElementsAre("a.textproto:1:1: backbone: broke"));
}

TEST_F(SpecTest, InheritedPlacesGoWithWhatIsReplaced) {
  Write("b.textproto", R"(
      backbone { [@Net] { depth: 1
        heads: 2 stages { width: 1 } stages { width: 2 } } }
      pooling { [@Pool] { k: 1 } })");
  Write("a.textproto", "base: \"b.textproto\"\nbackbone { [@Net] { depth: 3 stages {} } }\npooling { [@Mean] {} }");
  const absl::StatusOr<Spec> spec = Spec::Load("a.textproto");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto locate = [&](const std::string& path) { return spec->Locate(ErrorAt(path))[0]; };
  EXPECT_THAT(locate("backbone.depth"), testing::StartsWith("a.textproto:2:"));
  EXPECT_THAT(locate("backbone.heads"), testing::StartsWith("b.textproto:3:9:"));
  EXPECT_THAT(locate("backbone.stages[0].width"), testing::StartsWith("a.textproto:2:"));
  EXPECT_THAT(locate("backbone.stages[1]"), testing::StartsWith("a.textproto:2:"));
  EXPECT_THAT(locate("pooling.k"), testing::StartsWith("a.textproto:3:1:"));
}

TEST_F(SpecTest, SaysNothingMoreOfWhatHasAnError) {
  Write("a.textproto", R"(backbone { [@Nett] {} }
      trainer { epochs: six bach_size: 3 precision: }
      data { image_size: [32, x] })");
  const Spec::Partial partial = Spec::LoadPartially("a.textproto");
  EXPECT_EQ(partial.errors.size(), 5);
  for (const char* path : {"backbone", "backbone.depth", "trainer.epochs", "trainer.batch_size", "trainer.precision",
                           "data.image_size", "data.image_size[1]"}) {
    EXPECT_THAT(partial.spec.Locate(ErrorAt(path)), IsEmpty()) << path;
  }
  EXPECT_THAT(partial.spec.Locate(ErrorAt("trainer.learning_rate")),
              ElementsAre("a.textproto:2:7: trainer.learning_rate: is bad"));
}

TEST_F(SpecTest, WhatAnUnreadableFileMayHaveSetIsNotMissed) {
  for (const char* text :
       {"base: \"none.textproto\" trainer { seed: 1 }", "base: \"a.textproto\" trainer { seed: 1 }"}) {
    Write("a.textproto", text);
    const Spec::Partial partial = Spec::LoadPartially("a.textproto");
    EXPECT_EQ(partial.errors.size(), 1);
    EXPECT_THAT(partial.spec.Locate(ErrorAt("trainer.epochs")), IsEmpty());
    EXPECT_EQ(partial.spec.Locate(ErrorAt("trainer.seed")).size(), 1);
  }
  EXPECT_THAT(Spec::LoadPartially("none.textproto").spec.Locate(ErrorAt("trainer.epochs")), IsEmpty());
}

}  // namespace
}  // namespace graticule
