#include "data/datasets/caltech256/caltech256.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "data/datasets/test_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAreArray;

// Two classes of ten and five images, clutter of four, and the stray files of the published archive.
class Caltech256Test : public ::testing::Test {
 protected:
  Caltech256Test() {
    config_.set_path(folder_.path());
    config_.set_train_per_class(3);
    AddClass("056.dog", 10);
    AddClass("198.spider", 5);
    AddClass("257.clutter", 4);
    folder_.Write("256_ObjectCategories/056.dog/greg/vision309/x.jpg");
    folder_.Write("256_ObjectCategories/198.spider/RENAME2");
  }
  void AddClass(const std::string& folder, int images) {
    for (int i = 1; i <= images; ++i) {
      const std::string number = std::to_string(1000 + i).substr(1);
      folder_.Write("256_ObjectCategories/" + folder + "/" + folder.substr(0, 3) + "_0" + number + ".jpg");
    }
  }
  std::vector<std::string> Samples(Split split) {
    return folder_.Samples(*BuildPlugin<Dataset>(config_, {.split = split}));
  }

  TestFolder folder_;
  Caltech256 config_;
};

std::vector<int64_t> CountByClass(const std::vector<std::string>& samples) {
  std::vector<int64_t> counts(3);
  for (const std::string& sample : samples) ++counts[sample[0] - '0'];
  return counts;
}

TEST_F(Caltech256Test, CutsEachClass) {
  const std::vector<std::string> train = Samples(Split::kTrain), val = Samples(Split::kVal);
  EXPECT_THAT(BuildPlugin<Dataset>(config_, {.split = Split::kVal})->class_names(), ElementsAre("dog", "spider"));
  EXPECT_THAT(CountByClass(train), ElementsAre(3, 3, 0));
  EXPECT_THAT(CountByClass(val), ElementsAre(7, 2, 0));
  std::vector<std::string> all, both = train;
  both.insert(both.end(), val.begin(), val.end());
  for (int i = 1; i <= 10; ++i) {
    const std::string number = (i < 10 ? "000" : "00") + std::to_string(i);
    all.push_back("0:256_ObjectCategories/056.dog/056_" + number + ".jpg");
    if (i <= 5) all.push_back("1:256_ObjectCategories/198.spider/198_" + number + ".jpg");
  }
  EXPECT_THAT(both, UnorderedElementsAreArray(all));
}

// Published results rest on the cut: it must never change.
const std::vector<std::string> kCutOfSeed0 = {
    "0:256_ObjectCategories/056.dog/056_0004.jpg",    "0:256_ObjectCategories/056.dog/056_0006.jpg",
    "0:256_ObjectCategories/056.dog/056_0007.jpg",    "1:256_ObjectCategories/198.spider/198_0002.jpg",
    "1:256_ObjectCategories/198.spider/198_0003.jpg", "1:256_ObjectCategories/198.spider/198_0005.jpg"};

TEST_F(Caltech256Test, TheCutOfSeed0) { EXPECT_THAT(Samples(Split::kTrain), ElementsAreArray(kCutOfSeed0)); }

TEST_F(Caltech256Test, TheSeedSaysWhichImages) {
  const std::vector<std::string> train = Samples(Split::kTrain);
  config_.set_seed(1);
  EXPECT_NE(Samples(Split::kTrain), train);
  EXPECT_THAT(CountByClass(Samples(Split::kTrain)), ElementsAre(3, 3, 0));
}

TEST_F(Caltech256Test, AShareOfEachClass) {
  config_.clear_train_per_class();
  config_.set_train_share(0.8);
  EXPECT_THAT(CountByClass(Samples(Split::kTrain)), ElementsAre(8, 4, 0));
  EXPECT_THAT(CountByClass(Samples(Split::kVal)), ElementsAre(2, 1, 0));
}

TEST_F(Caltech256Test, SixtyByDefault) {
  config_.clear_train_per_class();
  EXPECT_THAT(OpeningError(config_, Split::kTrain),
              HasSubstr("056.dog: has 10 images, of which 60 would be for training"));
  AddClass("056.dog", 70);
  AddClass("198.spider", 61);
  EXPECT_THAT(CountByClass(Samples(Split::kTrain)), ElementsAre(60, 60, 0));
}

TEST_F(Caltech256Test, ClutterIsAClassIfWanted) {
  const std::vector<std::string> without = Samples(Split::kVal);
  config_.set_clutter(true);
  EXPECT_THAT(BuildPlugin<Dataset>(config_, {.split = Split::kTrain})->class_names(),
              ElementsAre("dog", "spider", "clutter"));
  std::vector<std::string> with = Samples(Split::kVal);
  EXPECT_THAT(CountByClass(with), ElementsAre(7, 2, 1));
  with.pop_back();
  EXPECT_EQ(with, without);
}

TEST_F(Caltech256Test, StrayFilesAreNamed) {
  folder_.Write("256_ObjectCategories/notes/1.jpg");
  folder_.Write("256_ObjectCategories/list.txt");
  EXPECT_THAT(folder_.PassedOver(*BuildPlugin<Dataset>(config_, {.split = Split::kTrain})),
              ElementsAre("256_ObjectCategories/list.txt: not in a class folder",
                          "256_ObjectCategories/056.dog/greg: a folder within a class",
                          "256_ObjectCategories/198.spider/RENAME2: not called an image",
                          "256_ObjectCategories/notes: not called like a class, such as 001.ak47"));
}

TEST_F(Caltech256Test, ThePathMayBeTheArchivesFolder) {
  const std::vector<std::string> train = Samples(Split::kTrain);
  config_.set_path(folder_.path("256_ObjectCategories"));
  EXPECT_EQ(Samples(Split::kTrain), train);
}

TEST_F(Caltech256Test, BadFolders) {
  AddClass("199.dog", 5);
  EXPECT_THAT(OpeningError(config_, Split::kTrain), HasSubstr("two folders of the class 'dog'"));
  folder_.Write("256_ObjectCategories/001.ak47/readme.txt");
  EXPECT_THAT(OpeningError(config_, Split::kTrain),
              HasSubstr("001.ak47: has 0 images, of which 3 would be for training"));
  config_.set_path(folder_.path("256_ObjectCategories/056.dog"));
  EXPECT_THAT(OpeningError(config_, Split::kTrain), HasSubstr("no class folders, such as 001.ak47, in "));
  config_.set_path(folder_.path("nowhere"));
  EXPECT_THAT(OpeningError(config_, Split::kTrain), EndsWith("nowhere': No such file or directory"));
}

TEST_F(Caltech256Test, MistakesInTheConfig) {
  config_.set_train_share(0.5);
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("train_share: is given beside train_per_class"));
  config_.clear_train_per_class();
  for (const double share : {-0.5, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    config_.set_train_share(share);
    EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("train_share: must be over 0 and under 1"));
  }
  config_.clear_train_share();
  config_.set_train_per_class(-1);
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("train_per_class: must not be negative"));
  config_.clear_train_per_class();
  config_.clear_path();
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("path: is required"));
}

}  // namespace
}  // namespace graticule
