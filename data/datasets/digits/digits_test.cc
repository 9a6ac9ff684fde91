#include "data/datasets/digits/digits.h"

#include <fstream>
#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Dataset> Make(Split split, uint64_t seed = 0) {
  Digits config;
  config.set_seed(seed);
  absl::StatusOr<std::unique_ptr<Dataset>> dataset = Registry<Dataset>::Create(config, DatasetContext{split});
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  return std::move(*dataset);
}

std::set<std::string> Names(const Dataset& dataset) {
  std::set<std::string> names;
  for (int64_t i = 0; i < dataset.size(); ++i) names.insert(dataset.SampleName(i));
  return names;
}

TEST(DigitsTest, AFifthIsHeldOut) {
  const std::unique_ptr<Dataset> train = Make(Split::kTrain), val = Make(Split::kVal);
  EXPECT_EQ(train->size(), 1438);
  EXPECT_EQ(val->size(), 359);
  std::set<std::string> names = Names(*train);
  names.merge(Names(*val));
  EXPECT_EQ(names.size(), 1797u);
  EXPECT_THAT(train->class_names(), ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"));
}

TEST(DigitsTest, TheSeedDecidesWhichFifth) {
  const std::set<std::string> first = Names(*Make(Split::kVal, 0)), other = Names(*Make(Split::kVal, 1));
  EXPECT_EQ(first, Names(*Make(Split::kVal, 0)));
  int64_t common = 0;
  for (const std::string& name : first) common += other.count(name);
  // A fifth of a fifth: 72, and its standard deviation is under 8.
  EXPECT_NEAR(static_cast<double>(common), 72, 40);
}

// The counts of UCI's optdigits.names for its test set, from which this file is.
TEST(DigitsTest, HoldsThePublishedNumberOfEachDigit) {
  std::map<int64_t, int64_t> counts;
  for (const Split split : {Split::kTrain, Split::kVal}) {
    const std::unique_ptr<Dataset> dataset = Make(split);
    for (int64_t i = 0; i < dataset->size(); ++i) ++counts[dataset->Read(i)->label];
  }
  const std::map<int64_t, int64_t> expected = {{0, 178}, {1, 182}, {2, 177}, {3, 183}, {4, 181},
                                               {5, 182}, {6, 181}, {7, 179}, {8, 174}, {9, 180}};
  EXPECT_EQ(counts, expected);
}

TEST(DigitsTest, GreyBecomesRgbOfTheWholeRange) {
  const std::unique_ptr<Dataset> train = Make(Split::kTrain), val = Make(Split::kVal);
  // The file's first line begins 0,0,5,13,9,1,0,0 and is a zero.
  for (const Dataset* dataset : {train.get(), val.get()}) {
    for (int64_t i = 0; i < dataset->size(); ++i) {
      const absl::StatusOr<Sample> sample = dataset->Read(i);
      const Image& image = std::get<Image>(sample->image);
      ASSERT_EQ(image.height, 8);
      ASSERT_EQ(image.width, 8);
      ASSERT_EQ(image.pixels.size(), 192u);
      if (dataset->SampleName(i) != "digits.csv:1") continue;
      EXPECT_EQ(sample->label, 0);
      const std::vector<uint8_t> row(image.pixels.begin(), image.pixels.begin() + 24);
      EXPECT_THAT(
          row, ElementsAre(0, 0, 0, 0, 0, 0, 80, 80, 80, 207, 207, 207, 143, 143, 143, 16, 16, 16, 0, 0, 0, 0, 0, 0));
    }
  }
  EXPECT_EQ(Names(*train).count("digits.csv:1") + Names(*val).count("digits.csv:1"), 1u);
}

std::string ErrorOf(const std::string& path) {
  Digits config;
  config.set_path(path);
  const auto dataset = Registry<Dataset>::Create(config, DatasetContext{});
  if (dataset.ok()) return "none";
  EXPECT_EQ(FieldErrors::FromStatus(dataset.status())[0].path, "path");
  return std::string(dataset.status().message());
}

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path) << text;
  return path;
}

std::string Line(int grey, int label) {
  std::string line;
  for (int i = 0; i < 64; ++i) line += std::to_string(grey) + ",";
  return line + std::to_string(label) + "\n";
}

TEST(DigitsTest, ReadsAFileOfTheUsers) {
  const std::string path = WriteFile("ten.csv", Line(16, 3) + Line(8, 9) + Line(0, 0) + Line(1, 1) + Line(2, 2) +
                                                    Line(16, 3) + Line(8, 9) + Line(0, 0) + Line(1, 1) + Line(2, 2));
  Digits config;
  config.set_path(path);
  EXPECT_EQ((*Registry<Dataset>::Create(config, DatasetContext{Split::kTrain}))->size(), 8);
  EXPECT_EQ((*Registry<Dataset>::Create(config, DatasetContext{Split::kVal}))->size(), 2);
}

TEST(DigitsTest, SaysWhatIsWrongWithAFile) {
  EXPECT_THAT(ErrorOf("/nowhere/digits.csv"), HasSubstr("can't open /nowhere/digits.csv: No such file"));
  EXPECT_THAT(ErrorOf(::testing::TempDir()), HasSubstr("can't read"));
  EXPECT_THAT(ErrorOf(WriteFile("empty.csv", "")), HasSubstr("must have 5 lines or more, found 0"));
  const std::string good = Line(3, 4);
  for (const std::string& bad :
       {Line(17, 4), Line(-1, 4), Line(3, 10), std::string("1,2,3\n"), std::string("\n"), "x" + good, "0," + good}) {
    EXPECT_THAT(ErrorOf(WriteFile("bad.csv", good + bad + good)), HasSubstr("bad.csv:2: must be 64 grey values"));
  }
}

}  // namespace
}  // namespace graticule
