#include "data/datasets/mini_imagenet/mini_imagenet.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "data/datasets/test_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAreArray;

std::string FileName(const std::string& wnid, int number) { return wnid + "0000" + std::to_string(number) + ".jpg"; }

// Four classes of six images: two of train.csv, one of val.csv, one of test.csv.
class MiniImagenetTest : public ::testing::Test {
 protected:
  const std::map<std::string, std::vector<std::string>> kParts = {
      {"train", {"n01532829", "n03400231"}}, {"val", {"n02981792"}}, {"test", {"n01930112"}}};

  MiniImagenetTest() {
    config_.set_path(folder_.path());
    config_.set_val_per_class(2);
  }
  // "images/FILE", or "images/CLASS/FILE".
  void WriteCsvLayout(bool by_class = false) {
    for (const auto& [part, wnids] : kParts) {
      std::string csv = "filename,label\n";
      for (const std::string& wnid : wnids) {
        for (int i = 0; i < 6; ++i) {
          csv += FileName(wnid, i) + "," + wnid + "\n";
          folder_.Write((by_class ? "images/" + wnid + "/" : "images/") + FileName(wnid, i));
        }
      }
      folder_.Write(part + ".csv", csv);
    }
  }
  void WriteFolders(const std::string& above) {
    for (const auto& [part, wnids] : kParts) {
      for (const std::string& wnid : wnids) {
        for (int i = 0; i < 6; ++i) folder_.Write(above + wnid + "/" + FileName(wnid, i));
      }
    }
  }
  // "LABEL:FILE" of each sample, wherever the file lies.
  std::vector<std::string> Files(Split split) {
    std::vector<std::string> files;
    const std::unique_ptr<Dataset> dataset = BuildPlugin<Dataset>(config_, {.split = split});
    for (const std::string& sample : folder_.Samples(*dataset)) {
      files.push_back(sample.substr(0, 2) + sample.substr(sample.rfind('/') + 1));
    }
    return files;
  }

  TestFolder folder_;
  MiniImagenet config_;
};

TEST_F(MiniImagenetTest, AllClassesAreCutOnce) {
  WriteCsvLayout();
  const std::vector<std::string> train = Files(Split::kTrain), val = Files(Split::kVal);
  EXPECT_EQ(train.size(), 16);
  EXPECT_EQ(val.size(), 8);
  EXPECT_THAT(BuildPlugin<Dataset>(config_, {.split = Split::kVal})->class_names(),
              ElementsAre("n01532829", "n01930112", "n02981792", "n03400231"));
  std::vector<std::string> all;
  int label = 0;
  for (const char* wnid : {"n01532829", "n01930112", "n02981792", "n03400231"}) {
    for (int i = 0; i < 6; ++i) all.push_back(std::to_string(label) + ":" + FileName(wnid, i));
    EXPECT_EQ(std::count_if(val.begin(), val.end(), [&](auto& v) { return v[0] == '0' + label; }), 2);
    ++label;
  }
  std::vector<std::string> both = train;
  both.insert(both.end(), val.begin(), val.end());
  EXPECT_THAT(both, UnorderedElementsAreArray(all));
}

// Published results rest on the cut: it must never change.
const std::vector<std::string> kCutOfSeed0 = {"0:n0153282900000.jpg", "0:n0153282900005.jpg", "1:n0193011200001.jpg",
                                              "1:n0193011200004.jpg", "2:n0298179200002.jpg", "2:n0298179200005.jpg",
                                              "3:n0340023100000.jpg", "3:n0340023100003.jpg"};

TEST_F(MiniImagenetTest, TheCutOfSeed0) {
  WriteFolders("");
  EXPECT_THAT(Files(Split::kVal), ElementsAreArray(kCutOfSeed0));
}

TEST_F(MiniImagenetTest, TheCutIsTheSameHoweverTheFilesLie) {
  WriteCsvLayout();
  const std::vector<std::string> val = Files(Split::kVal);
  for (const char* above : {"", "images/"}) {
    std::filesystem::remove_all(folder_.path());
    WriteFolders(above);
    EXPECT_EQ(Files(Split::kVal), val);
  }
  std::filesystem::remove_all(folder_.path());
  WriteCsvLayout(true);
  EXPECT_EQ(Files(Split::kVal), val);
  config_.set_seed(1);
  EXPECT_NE(Files(Split::kVal), val);
}

TEST_F(MiniImagenetTest, AHundredAreHeldOutByDefault) {
  config_.clear_val_per_class();
  for (int i = 0; i < 103; ++i) folder_.Write("n01532829/" + std::to_string(i) + ".jpg");
  EXPECT_EQ(BuildPlugin<Dataset>(config_, {.split = Split::kTrain})->size(), 3);
  EXPECT_EQ(BuildPlugin<Dataset>(config_, {.split = Split::kVal})->size(), 100);
}

TEST_F(MiniImagenetTest, FewShotSplitsKeepTheLabelsOfAllClasses) {
  WriteCsvLayout();
  const auto labels_of = [&](Split split) {
    std::set<std::string> labels;
    for (const std::string& file : Files(split)) labels.insert(file.substr(0, file.size() - 9));
    return labels;
  };
  config_.set_split(MiniImagenet::FEW_SHOT_VAL);
  EXPECT_THAT(labels_of(Split::kTrain), ElementsAre("0:n01532829", "3:n03400231"));
  EXPECT_THAT(labels_of(Split::kVal), ElementsAre("2:n02981792"));
  EXPECT_EQ(Files(Split::kTrain).size(), 12);
  EXPECT_EQ(Files(Split::kVal).size(), 6);
  config_.set_split(MiniImagenet::FEW_SHOT_TEST);
  EXPECT_THAT(labels_of(Split::kVal), ElementsAre("1:n01930112"));
  EXPECT_EQ(BuildPlugin<Dataset>(config_, {.split = Split::kVal})->class_names().size(), 4);
}

TEST_F(MiniImagenetTest, PartsMayBeFoldersToo) {
  for (const auto& [part, wnids] : kParts) {
    for (const std::string& wnid : wnids) {
      for (int i = 0; i < 6; ++i) folder_.Write(part + "/" + wnid + "/" + FileName(wnid, i));
    }
  }
  EXPECT_EQ(Files(Split::kVal).size(), 8);
  config_.set_split(MiniImagenet::FEW_SHOT_TEST);
  EXPECT_EQ(Files(Split::kVal).size(), 6);
  EXPECT_THAT(Files(Split::kVal)[0], StartsWith("1:n01930112"));
}

TEST_F(MiniImagenetTest, FewShotSplitsNeedTheParts) {
  WriteFolders("");
  config_.set_split(MiniImagenet::FEW_SHOT_VAL);
  EXPECT_THAT(OpeningError(config_, Split::kVal), HasSubstr("need train.csv, val.csv, test.csv or folders"));
}

TEST_F(MiniImagenetTest, MistakesInCsvFiles) {
  WriteCsvLayout();
  folder_.Write("val.csv", "name,label\nx.jpg,n02981792\n");
  EXPECT_THAT(
      OpeningError(config_, Split::kTrain),
      AllOf(StartsWith("path: "), HasSubstr("val.csv:1: must name the columns filename and label, found 'name,")));
  folder_.Write("val.csv", "filename,label\n\nn0298179200000.jpg\n");
  EXPECT_THAT(OpeningError(config_, Split::kTrain),
              HasSubstr("val.csv:3: must be filename,label, found 'n0298179200000.jpg'"));
  folder_.Write("val.csv", "filename,label\nn0298179200000.jpg,\n");
  EXPECT_THAT(OpeningError(config_, Split::kTrain), HasSubstr("val.csv:2: must be filename,label"));
  folder_.Write("val.csv", "filename,label\n../train.csv,n02981792\n");
  EXPECT_THAT(OpeningError(config_, Split::kTrain), HasSubstr("val.csv:2: no file '../train.csv' in "));
  folder_.Write("val.csv", "filename,label\n" + FileName("n01532829", 0) + ",n02981792\n");
  EXPECT_THAT(OpeningError(config_, Split::kTrain), HasSubstr(" is at "));
  std::filesystem::remove(folder_.path("val.csv"));
  EXPECT_THAT(OpeningError(config_, Split::kTrain), EndsWith("val.csv': No such file or directory"));
}

TEST_F(MiniImagenetTest, ColumnsAreFoundByName) {
  WriteCsvLayout();
  const std::vector<std::string> val = Files(Split::kVal);
  std::string csv = ",label,filename\n";
  for (int i = 0; i < 6; ++i) csv += std::to_string(i) + ",n02981792," + FileName("n02981792", i) + "\n";
  folder_.Write("val.csv", csv);
  EXPECT_EQ(Files(Split::kVal), val);
}

TEST_F(MiniImagenetTest, FieldsMayStandInQuotes) {
  WriteCsvLayout();
  const std::vector<std::string> val = Files(Split::kVal);
  std::string csv = "\"\",\"filename\",\"label\"\r\n";
  for (int i = 0; i < 6; ++i) csv += "\"0\",\"" + FileName("n02981792", i) + "\",\"n02981792\"\r\n";
  folder_.Write("val.csv", csv);
  EXPECT_EQ(Files(Split::kVal), val);
}

TEST_F(MiniImagenetTest, WhatNoListNamesIsPassedOver) {
  WriteCsvLayout();
  folder_.Write("images/extra.jpg");
  EXPECT_THAT(folder_.PassedOver(*BuildPlugin<Dataset>(config_, {.split = Split::kVal})),
              ElementsAre("images/extra.jpg: in no list of labels"));
}

TEST_F(MiniImagenetTest, AClassOfTooFewImages) {
  WriteFolders("");
  config_.set_val_per_class(6);
  EXPECT_THAT(OpeningError(config_, Split::kTrain),
              HasSubstr("class n01532829 has 6 images, too few to hold out 6 for validation"));
}

TEST_F(MiniImagenetTest, MistakesInTheConfig) {
  config_.clear_path();
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("path: is required"));
  config_.set_path(folder_.path());
  EXPECT_THAT(OpeningError(config_, Split::kTrain), HasSubstr("no class folders in "));
  config_.set_val_per_class(-1);
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("val_per_class: must not be negative"));
  config_.clear_val_per_class();
  config_.set_split(static_cast<MiniImagenet::Split>(9));
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("split: must be ALL_CLASSES"));
}

}  // namespace
}  // namespace graticule
