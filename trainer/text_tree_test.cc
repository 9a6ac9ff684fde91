#include "trainer/text_tree.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string Show(const std::vector<TextField>& fields);

std::string Show(const TextValue& value) {
  const std::string place = absl::StrCat("@", value.place.line, ":", value.place.column);
  switch (value.kind) {
    case TextValue::kInteger:
      return absl::StrCat("int ", value.text, place);
    case TextValue::kString:
      return absl::StrCat("string ", value.text, place);
    case TextValue::kOther:
      return absl::StrCat("other ", value.text, place);
    case TextValue::kMessage:
      return absl::StrCat("{", Show(value.fields), "}", place);
  }
  return "";
}

// "depth@1:1=int 6@1:8".
std::string Show(const std::vector<TextField>& fields) {
  std::vector<std::string> parts;
  for (const TextField& field : fields) {
    std::vector<std::string> values;
    for (const TextValue& value : field.values) values.push_back(Show(value));
    std::string shown = absl::StrJoin(values, ", ");
    if (field.is_list) shown = absl::StrCat("[", shown, "]");
    if (field.broken) shown = "broken";
    const std::string name = field.is_type ? absl::StrCat("[", field.name, "]") : field.name;
    parts.push_back(absl::StrCat(name, "@", field.place.line, ":", field.place.column, "=", shown));
  }
  return absl::StrJoin(parts, "; ");
}

struct Parsed {
  std::string tree;
  std::vector<std::string> errors;
};

Parsed Parse(const std::string& text, const Place& origin = {"f", 1, 1}) {
  std::vector<TextError> errors;
  Parsed parsed;
  parsed.tree = Show(ParseText(origin, text, &errors));
  for (const TextError& error : errors) parsed.errors.push_back(error.place.ToString() + ": " + error.message);
  return parsed;
}

// The tree of a text without errors.
std::string Tree(const std::string& text) {
  const Parsed parsed = Parse(text);
  EXPECT_THAT(parsed.errors, IsEmpty()) << text;
  return parsed.tree;
}

TEST(ParseTextTest, Scalars) {
  EXPECT_EQ(Tree("depth: 6"), "depth@1:1=int 6@1:8");
  EXPECT_EQ(Tree("a: -6 b: 0x1f"), "a@1:1=int -6@1:4; b@1:7=int 0x1f@1:10");
  EXPECT_EQ(Tree("a: - 6"), "a@1:1=int -6@1:4");
  EXPECT_EQ(Tree("a: 5e-4 b: -.5 c: 1.5f"), "a@1:1=other 5e-4@1:4; b@1:9=other -.5@1:12; c@1:16=other 1.5f@1:19");
  EXPECT_EQ(Tree("a: -inf b: true c: BF16"), "a@1:1=other -inf@1:4; b@1:9=other true@1:12; c@1:17=other BF16@1:20");
  EXPECT_EQ(Tree("a: \"x\\n\"\n  'y'\nb: 1"), "a@1:1=string \"x\\n\" 'y'@1:4; b@3:1=int 1@3:4");
}

TEST(ParseTextTest, MessagesWithAndWithoutColon) {
  EXPECT_EQ(Tree("a { b: 1 }"), "a@1:1={b@1:5=int 1@1:8}@1:3");
  EXPECT_EQ(Tree("a: < b { } >"), "a@1:1={b@1:6={}@1:8}@1:4");
  EXPECT_EQ(Tree(""), "");
}

TEST(ParseTextTest, Lists) {
  EXPECT_EQ(Tree("a: [32, 64]"), "a@1:1=[int 32@1:5, int 64@1:9]");
  EXPECT_EQ(Tree("a: []"), "a@1:1=[]");
  EXPECT_EQ(Tree("a [{b: 1}, {}]"), "a@1:1=[{b@1:5=int 1@1:8}@1:4, {}@1:12]");
}

TEST(ParseTextTest, PluginTypes) {
  EXPECT_EQ(Tree("a {\n  [type.googleapis.com/graticule.Vit] { depth: 1 }\n}"),
            "a@1:1={[type.googleapis.com/graticule.Vit]@2:3={depth@2:41=int 1@2:48}@2:39}@1:3");
}

TEST(ParseTextTest, SeparatorsAndComments) {
  EXPECT_EQ(Tree("# head\na: 1, b: 2; # tail\nc {},"), "a@2:1=int 1@2:4; b@2:7=int 2@2:10; c@3:1={}@3:3");
}

TEST(ParseTextTest, WordsThatAreNoValuesStayWhole) {
  EXPECT_EQ(Tree("a: 6x b: runs/7"), "a@1:1=other 6x@1:4; b@1:7=other runs/7@1:10");
}

TEST(ParseTextTest, PlacesCountFromTheOrigin) {
  EXPECT_EQ(Parse("a: 1", {"--set x", 0, 10}).tree, "a@0:10=int 1@0:13");
  EXPECT_THAT(Parse("a:", {"--set x", 0, 10}).errors, ElementsAre("--set x: column 10: a has no value"));
}

TEST(ParseTextTest, AMissingValueCostsOneField) {
  const Parsed parsed = Parse("depth:\nheads: 3\nwidth:");
  EXPECT_EQ(parsed.tree, "depth@1:1=broken; heads@2:1=int 3@2:8; width@3:1=broken");
  EXPECT_THAT(parsed.errors, ElementsAre("f:1:1: depth has no value", "f:3:1: width has no value"));
  EXPECT_THAT(Parse("a { b: }").errors, ElementsAre("f:1:5: b has no value"));
}

TEST(ParseTextTest, AMissingColonCostsNothing) {
  const Parsed parsed = Parse("depth 6\nheads = 3");
  EXPECT_EQ(parsed.tree, "depth@1:1=int 6@1:7; heads@2:1=int 3@2:9");
  EXPECT_THAT(parsed.errors,
              ElementsAre("f:1:7: expected ':' after depth, found '6'", "f:2:7: expected ':' after heads, found '='"));
}

TEST(ParseTextTest, GoesOnAtTheNextLine) {
  const Parsed parsed = Parse("a: 1\n!? oops: {\n  b: 2\n}\nc: 3\n7: 1\nd: 4");
  EXPECT_EQ(parsed.tree, "a@1:1=int 1@1:4; c@5:1=int 3@5:4; d@7:1=int 4@7:4");
  EXPECT_THAT(parsed.errors,
              ElementsAre("f:2:1: expected a field's name, found '!'", "f:6:1: expected a field's name, found '7'"));
}

TEST(ParseTextTest, Brackets) {
  EXPECT_THAT(Parse("a {\n b: 1\n").errors, ElementsAre("f:1:3: '{' is never closed"));
  const Parsed extra = Parse("a: 1 }\nb: 2");
  EXPECT_EQ(extra.tree, "a@1:1=int 1@1:4; b@2:1=int 2@2:4");
  EXPECT_THAT(extra.errors, ElementsAre("f:1:6: expected a field's name, found '}'"));
  const Parsed mixed = Parse("a {\n >\nb: 2");
  EXPECT_EQ(mixed.tree, "a@1:1={}@1:3; b@3:1=int 2@3:4");
  EXPECT_THAT(mixed.errors, ElementsAre("f:2:2: expected '}' for the '{' of line 1, found '>'"));
}

TEST(ParseTextTest, BrokenLists) {
  const Parsed parsed = Parse("a: [1 2]\nb: [1,]\nc: [1, 2\nd: 4");
  EXPECT_EQ(parsed.tree, "a@1:1=broken; b@2:1=broken; c@3:1=broken");
  EXPECT_THAT(parsed.errors, ElementsAre("f:1:7: expected ',' or ']' in the list of line 1, found '2'",
                                         "f:2:7: expected a value in the list, found ']'",
                                         "f:4:1: expected ',' or ']' in the list of line 3, found 'd'"));
}

TEST(ParseTextTest, BrokenPluginTypes) {
  const Parsed parsed = Parse("[type.googleapis.com/graticule.Vit {\n  a: 1\n}\nb: 2");
  EXPECT_EQ(parsed.tree, "b@4:1=int 2@4:4");
  EXPECT_THAT(parsed.errors, ElementsAre("f:1:36: expected ']' after a plugin's type, found '{'"));
}

TEST(ParseTextTest, WhatIsNoTokenIsSaidOnce) {
  const Parsed open = Parse("a: \"x\nb: 2");
  EXPECT_EQ(open.tree, "a@1:1=broken; b@2:1=int 2@2:4");
  EXPECT_THAT(open.errors, ElementsAre("f:1:6: String literals cannot cross line boundaries."));
  const Parsed letters = Parse("a: 1\nä: ö\nb: 2");
  EXPECT_EQ(letters.tree, "a@1:1=int 1@1:4; b@3:1=int 2@3:4");
  EXPECT_THAT(letters.errors, ElementsAre("f:2:1: letters outside ASCII stand in quotes only"));
}

TEST(ParseTextTest, DeepNestingIsAnErrorAndNoCrash) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "a{";
  EXPECT_THAT(Parse(text).errors, ElementsAre("f:1:202: messages are nested more than 100 deep"));
}

}  // namespace
}  // namespace graticule
