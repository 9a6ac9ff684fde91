#include "app/list.h"

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "google/protobuf/empty.pb.h"
#include "gtest/gtest.h"
#include "labels/objective.pb.h"
#include "plugin/registry.h"
#include "trainer/experiment.pb.h"

namespace graticule {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Kind {
  struct Context {};
};
struct FakeBackbone : Kind {
  static constexpr char kKind[] = "backbone";
};
struct FakeObjective : Kind {
  static constexpr char kKind[] = "objective";
};
struct FakeWidget : Kind {
  static constexpr char kKind[] = "widget";
};

template <typename Fake, typename Config>
absl::StatusOr<std::unique_ptr<Fake>> Make(const Config&, const Kind::Context&) {
  return std::make_unique<Fake>();
}

// Messages of the experiment serve as configs: their comments are there.
const Registration<FakeBackbone, Trainer> kTrainer("A fake", "epochs: 1", &Make<FakeBackbone, Trainer>);
const Registration<FakeBackbone, google::protobuf::Empty> kEmpty("Nothing", "",
                                                                 &Make<FakeBackbone, google::protobuf::Empty>);
const Registration<FakeObjective, ObjectiveSpec> kObjective("A nested fake", "weight: 1",
                                                            &Make<FakeObjective, ObjectiveSpec>);
const Registration<FakeWidget, Expected> kWidget("A kind without a slot", "", &Make<FakeWidget, Expected>);

std::string Print(bool markdown) {
  std::ostringstream output;
  PrintPlugins(output, markdown);
  return output.str();
}

TEST(PrintPluginsTest, TextHasKindsFieldsCommentsAndExamples) {
  const std::string text = Print(/*markdown=*/false);
  EXPECT_THAT(text, testing::StartsWith("BACKBONE\n========\n\ngoogle.protobuf.Empty: Nothing\n    Example:\n"));
  EXPECT_THAT(text, HasSubstr("\ngraticule.Trainer: A fake\n"));
  EXPECT_THAT(text, testing::ContainsRegex("\n    epochs +int32 +Epochs to train for\\. Must be positive\\.\n"));
  EXPECT_THAT(text, testing::ContainsRegex("\n    sinks +list of sink plugin  "));
  EXPECT_THAT(text, HasSubstr("\n      backbone { [type.googleapis.com/graticule.Trainer] { epochs: 1 } }\n"));
  EXPECT_THAT(text, HasSubstr("\n      backbone { [type.googleapis.com/google.protobuf.Empty] {} }\n"));
}

TEST(PrintPluginsTest, TextGivesTheValuesOfEnums) {
  const std::string text = Print(/*markdown=*/false);
  EXPECT_THAT(text,
              testing::ContainsRegex("\n +BF16: Autocast to bfloat16; weights and\n +optimizer stay in fp32\\.\n"));
  EXPECT_THAT(text, Not(HasSubstr("UNSPECIFIED")));
}

TEST(PrintPluginsTest, FieldsOfFieldsHaveTheirPaths) {
  EXPECT_THAT(Print(false),
              testing::ContainsRegex("\n    weight_schedule\\[\\]\\.progress +double +Share of the training"));
}

TEST(PrintPluginsTest, ExamplesStandInTheirPlaceOfTheExperiment) {
  EXPECT_THAT(Print(false),
              HasSubstr("objectives { objective { [type.googleapis.com/graticule.ObjectiveSpec] { weight: 1 } } }"));
  EXPECT_THAT(Print(false), HasSubstr("\n      [type.googleapis.com/graticule.Expected] {}\n"));
}

TEST(PrintPluginsTest, TextFitsIntoATerminal) {
  const std::vector<std::string> lines = absl::StrSplit(Print(/*markdown=*/false), '\n');
  for (const std::string& line : lines) {
    EXPECT_LE(line.size(), 100) << line;
    EXPECT_FALSE(!line.empty() && line.back() == ' ') << line;
  }
}

TEST(PrintPluginsTest, MarkdownBeginsWithTheExperiment) {
  const std::string text = Print(/*markdown=*/true);
  EXPECT_THAT(text, HasSubstr("\n## The experiment\n\nAn experiment"));
  EXPECT_THAT(text, HasSubstr("\n| `backbone` | backbone plugin | The network from images to tokens."));
  EXPECT_THAT(text,
              HasSubstr("\n### `trainer`\n\nHow it is trained.\n\n| field | type | meaning |\n| --- | --- | --- |\n"
                        "| `epochs` | int32 | Epochs to train for. Must be positive. |\n"));
  EXPECT_THAT(text, HasSubstr("| `weight_schedule[].weight` | double | λ there. |\n"));
  EXPECT_LT(text.find("### `expected`"), text.find("## Plugins: backbone"));
  EXPECT_THAT(text, HasSubstr("\n## Plugins: widget\n\n### `graticule.Expected`\n\nA kind without a slot.\n"));
  EXPECT_THAT(text, HasSubstr("\n### `google.protobuf.Empty`\n\nNothing.\n\nIt has no fields.\n"));
  EXPECT_THAT(text,
              HasSubstr("\n```textproto\nbackbone { [type.googleapis.com/graticule.Trainer] { epochs: 1 } }\n```\n"));
}

}  // namespace
}  // namespace graticule
