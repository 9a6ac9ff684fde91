#include "data/datasets/imagenet/imagenet.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "data/datasets/test_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Three classes, whose ILSVRC2012_IDs in testdata/meta.mat are 3, 1 and 2, and four validation images.
class ImagenetTest : public ::testing::Test {
 protected:
  ImagenetTest() {
    config_.set_path(folder_.path());
    for (const char* wnid : {"n01440764", "n02119789", "n02100735"}) {
      folder_.Write(std::string("train/") + wnid + "/" + wnid + "_10.JPEG");
    }
    for (const char* number : {"1", "2", "3", "4"}) {
      folder_.Write(std::string("val/ILSVRC2012_val_0000000") + number + ".JPEG");
    }
  }

  // With these labels, those of the four images.
  std::string LabelsOf(const std::string& list, const std::string& text) {
    folder_.Write(list, text);
    config_.set_val_labels(list);
    const std::unique_ptr<Dataset> val = BuildPlugin<Dataset>(config_, {.split = Split::kVal});
    std::string labels;
    for (int64_t i = 0; val != nullptr && i < val->size(); ++i) labels += std::to_string(val->Read(i)->label);
    return labels;
  }
  std::string ErrorOf(const std::string& list, const std::string& text) {
    folder_.Write(list, text);
    config_.set_val_labels(list);
    return OpeningError(config_, Split::kVal);
  }

  void WriteDevelopmentKit(const std::string& ground_truth) {
    std::ifstream meta("data/datasets/imagenet/testdata/meta.mat", std::ios::binary);
    std::stringstream bytes;
    bytes << meta.rdbuf();
    ASSERT_FALSE(bytes.str().empty());
    folder_.Write("ILSVRC2012_devkit_t12/data/meta.mat", bytes.str());
    folder_.Write("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", ground_truth);
  }

  TestFolder folder_;
  Imagenet config_;
};

TEST_F(ImagenetTest, ClassesAreTheSortedWnidsOfTraining) {
  folder_.Write("train/lost+found/1.JPEG");
  folder_.Write("train/n02100735.tar");
  const std::unique_ptr<Dataset> train = BuildPlugin<Dataset>(config_, {.split = Split::kTrain});
  EXPECT_THAT(train->class_names(), ElementsAre("n01440764", "n02100735", "n02119789"));
  EXPECT_THAT(folder_.Samples(*train),
              ElementsAre("0:train/n01440764/n01440764_10.JPEG", "1:train/n02100735/n02100735_10.JPEG",
                          "2:train/n02119789/n02119789_10.JPEG"));
  EXPECT_THAT(folder_.PassedOver(*train),
              ElementsAre("train/n02100735.tar: not in a class folder", "train/lost+found: not a class"));
}

TEST_F(ImagenetTest, AListOfWnidsInTheOrderOfTheFiles) {
  EXPECT_EQ(LabelsOf("labels.txt", "n02119789\nn01440764\nn02119789\nn02100735\n"), "2021");
}

TEST_F(ImagenetTest, AListOfNumbersInTheOrderOfTheFiles) { EXPECT_EQ(LabelsOf("labels.txt", "2\n0\n2\n1"), "2021"); }

TEST_F(ImagenetTest, AListOfFilesAndNumbersOrWnids) {
  folder_.Write("val/unlisted file.JPEG");
  const char* list =
      "ILSVRC2012_val_00000004.JPEG 1\n"
      "ILSVRC2012_val_00000001.JPEG n02119789\n"
      "unlisted file.JPEG 0\n"
      "ILSVRC2012_val_00000003.JPEG\t2\n";
  EXPECT_EQ(LabelsOf("labels.txt", list), "1202");
  const std::unique_ptr<Dataset> val = BuildPlugin<Dataset>(config_, {.split = Split::kVal});
  EXPECT_THAT(folder_.Samples(*val),
              ElementsAre("1:val/ILSVRC2012_val_00000004.JPEG", "2:val/ILSVRC2012_val_00000001.JPEG",
                          "0:val/unlisted file.JPEG", "2:val/ILSVRC2012_val_00000003.JPEG"));
  EXPECT_THAT(folder_.PassedOver(*val), ElementsAre("val/ILSVRC2012_val_00000002.JPEG: in no list of labels"));
}

TEST_F(ImagenetTest, KagglesList) {
  const char* list =
      "ImageId,PredictionString\n"
      "ILSVRC2012_val_00000002,n02119789 85 1 499 272 \n"
      "ILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 5 6 7 8 \n";
  EXPECT_EQ(LabelsOf("LOC_val_solution.csv", list), "20");
}

TEST_F(ImagenetTest, TheDevelopmentKitsNumbersAreNoPlaces) {
  WriteDevelopmentKit("1\n3\n1\n2\n");
  for (const char* labels :
       {"", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"}) {
    config_.set_val_labels(labels);
    const std::unique_ptr<Dataset> val = BuildPlugin<Dataset>(config_, {.split = Split::kVal});
    ASSERT_NE(val, nullptr);
    EXPECT_THAT(folder_.Samples(*val),
                ElementsAre("2:val/ILSVRC2012_val_00000001.JPEG", "0:val/ILSVRC2012_val_00000002.JPEG",
                            "2:val/ILSVRC2012_val_00000003.JPEG", "1:val/ILSVRC2012_val_00000004.JPEG"));
  }
}

TEST_F(ImagenetTest, MistakesInTheDevelopmentKit) {
  WriteDevelopmentKit("1\n3\n7\n2\n");
  EXPECT_THAT(OpeningError(config_, Split::kVal),
              AllOf(StartsWith("val_labels: "), HasSubstr("ground_truth.txt:3: '7' is no ILSVRC2012_ID of ")));
  // Of meta.mat, but no folder of training.
  WriteDevelopmentKit("1\n3\n4\n2\n");
  EXPECT_THAT(OpeningError(config_, Split::kVal), HasSubstr("ground_truth.txt:3: no class 'n02110185'"));
  folder_.Write("ILSVRC2012_devkit_t12/data/meta.mat", "nonsense");
  EXPECT_THAT(OpeningError(config_, Split::kVal), EndsWith("meta.mat: not a little-endian MATLAB 5 file"));
  std::filesystem::remove(folder_.path("ILSVRC2012_devkit_t12/data/meta.mat"));
  EXPECT_THAT(OpeningError(config_, Split::kVal), EndsWith("meta.mat': No such file or directory"));
}

TEST_F(ImagenetTest, UsualNamesOfListsAreFound) {
  EXPECT_THAT(OpeningError(config_, Split::kVal), AllOf(StartsWith("val_labels: no labels for the images in "),
                                                        HasSubstr("val.txt, LOC_val_solution.csv")));
  folder_.Write("LOC_val_solution.csv", "nonsense");
  folder_.Write("imagenet_2012_validation_synset_labels.txt", "n02119789\nn01440764\nn02119789\nn02100735\n");
  EXPECT_THAT(folder_.Samples(*BuildPlugin<Dataset>(config_, {.split = Split::kVal})),
              ElementsAre("2:val/ILSVRC2012_val_00000001.JPEG", "0:val/ILSVRC2012_val_00000002.JPEG",
                          "2:val/ILSVRC2012_val_00000003.JPEG", "1:val/ILSVRC2012_val_00000004.JPEG"));
}

TEST_F(ImagenetTest, ValidationInFoldersNeedsNoList) {
  std::filesystem::remove_all(folder_.path("val"));
  folder_.Write("val/n02100735/a.JPEG");
  folder_.Write("val/ground_truth.txt");
  const std::unique_ptr<Dataset> val = BuildPlugin<Dataset>(config_, {.split = Split::kVal});
  EXPECT_THAT(folder_.Samples(*val), ElementsAre("1:val/n02100735/a.JPEG"));
  EXPECT_EQ(val->class_names().size(), 3);
  folder_.Write("val/n09999999/a.JPEG");
  EXPECT_THAT(OpeningError(config_, Split::kVal), HasSubstr("has classes that "));
}

TEST_F(ImagenetTest, ValidationHalfInFolders) {
  folder_.Write("val/n02100735/a.JPEG");
  EXPECT_THAT(OpeningError(config_, Split::kVal),
              AllOf(StartsWith("path: "),
                    HasSubstr("val: has both folders and images beside them: ILSVRC2012_val_00000001.JPEG")));
}

TEST_F(ImagenetTest, AListOfClassesReplacesTraining) {
  std::filesystem::remove_all(folder_.path("train"));
  folder_.Write("wnids.txt", "n02119789\nn02100735\nn01440764\n");
  config_.set_classes("wnids.txt");
  EXPECT_EQ(LabelsOf("labels.txt", "n02119789\nn01440764\n0\n1\n"), "0201");
}

TEST_F(ImagenetTest, MistakesInLists) {
  EXPECT_THAT(ErrorOf("a.txt", "0\n1\n2\n"),
              AllOf(StartsWith("val_labels: "), HasSubstr("a.txt: has 3 labels for the 4 images in ")));
  EXPECT_THAT(ErrorOf("a.txt", "0\n1\n2\n3\n"), HasSubstr("a.txt:4: label 3 is not in 0 … 2"));
  EXPECT_THAT(ErrorOf("a.txt", "0\n-1\n2\n2\n"), HasSubstr("a.txt:2: label -1 is not in 0 … 2"));
  EXPECT_THAT(ErrorOf("a.txt", "0\nn01440765\n2\n2\n"),
              AllOf(HasSubstr("a.txt:2: no class 'n01440765' among the 3 of "), EndsWith("did you mean 'n01440764'?")));
  EXPECT_THAT(ErrorOf("a.txt", "0\nILSVRC2012_val_00000001.JPEG 1\n"), HasSubstr("a.txt:2: no class 'ILSVRC"));
  EXPECT_THAT(ErrorOf("a.txt", "ILSVRC2012_val_00000001.JPEG 1\n0\n"),
              HasSubstr("a.txt:2: must be FILENAME LABEL, found '0'"));
  EXPECT_THAT(ErrorOf("a.txt", "ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000001.JPEG 1\n"),
              AllOf(HasSubstr("a.txt:2: 'ILSVRC2012_val_00000001.JPEG' is at "), EndsWith("a.txt:1 already")));
  EXPECT_THAT(ErrorOf("a.txt", "ILSVRC2012_val_00000001.JPEG 1\nx.JPEG 1\ny.JPEG 2\n"),
              AllOf(HasSubstr("a.txt:2: no file 'x.JPEG' in "), EndsWith("(the first of 2 that are missing)")));
  EXPECT_THAT(ErrorOf("a.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001\n"),
              HasSubstr("a.csv:2: must be ImageId,PredictionString, found"));
  EXPECT_THAT(ErrorOf("a.csv", "ImageId,PredictionString\n"), HasSubstr("a.csv: has no labels"));
}

TEST_F(ImagenetTest, MissingPath) {
  config_.clear_path();
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("path: is required"));
  config_.set_path(folder_.path("train/n01440764"));
  EXPECT_THAT(OpeningError(config_, Split::kVal), HasSubstr("No such file or directory"));
}

TEST_F(ImagenetTest, ClassFoldersOfOtherNames) {
  config_.set_train("val");
  folder_.Write("val/cats/1.JPEG");
  EXPECT_THAT(OpeningError(config_, Split::kTrain), EndsWith("and its folders are not called like classes: cats"));
}

}  // namespace
}  // namespace graticule
