#include "data/datasets/tiny_imagenet/tiny_imagenet.h"

#include <filesystem>
#include <memory>
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
using ::testing::StartsWith;

// Two classes; wnids.txt has them in another order, as the real one has.
class TinyImagenetTest : public ::testing::Test {
 protected:
  TinyImagenetTest() {
    config_.set_path(folder_.path());
    folder_.Write("wnids.txt", "n02124075\nn01443537\n");
    for (const char* wnid : {"n01443537", "n02124075"}) {
      const std::string name = std::string("train/") + wnid + "/images/" + wnid;
      folder_.Write(name + "_0.JPEG");
      folder_.Write(name + "_10.JPEG");
      folder_.Write(std::string("train/") + wnid + "/" + wnid + "_boxes.txt");
    }
    folder_.Write("val/images/val_0.JPEG");
    folder_.Write("val/images/val_1.JPEG");
    folder_.Write("test/images/test_0.JPEG");
    Annotate("val_0.JPEG\tn02124075\t0\t32\t44\t62\r\nval_1.JPEG\tn01443537\t52\t55\t57\t59\r\n");
  }
  void Annotate(const std::string& text) { folder_.Write("val/val_annotations.txt", text); }

  TestFolder folder_;
  TinyImagenet config_;
};

TEST_F(TinyImagenetTest, ReadsItsOwnLayout) {
  folder_.Write("train/n01443537/images/list.txt");
  const auto train = BuildPlugin<Dataset>(config_, {.split = Split::kTrain}),
             val = BuildPlugin<Dataset>(config_, {.split = Split::kVal});
  EXPECT_THAT(train->class_names(), ElementsAre("n01443537", "n02124075"));
  EXPECT_EQ(val->class_names(), train->class_names());
  EXPECT_THAT(folder_.Samples(*train),
              ElementsAre("0:train/n01443537/images/n01443537_0.JPEG", "0:train/n01443537/images/n01443537_10.JPEG",
                          "1:train/n02124075/images/n02124075_0.JPEG", "1:train/n02124075/images/n02124075_10.JPEG"));
  EXPECT_THAT(folder_.Samples(*val), ElementsAre("1:val/images/val_0.JPEG", "0:val/images/val_1.JPEG"));
  EXPECT_THAT(folder_.PassedOver(*train), ElementsAre(StartsWith("train/n01443537/images/list.txt: ")));
}

TEST_F(TinyImagenetTest, MistakesInTheAnnotations) {
  Annotate("val_0.JPEG n02124075 0 32 44 62\n");
  EXPECT_THAT(OpeningError(config_, Split::kVal),
              AllOf(StartsWith("path: "), HasSubstr("val_annotations.txt:1: must be a file, a WNID and four numbers"),
                    EndsWith("found 1 column")));
  Annotate("val_0.JPEG\tn02124075\t0\t32\t44\t62\nval_1.JPEG\tn02124076\t0\t32\t44\t62\n");
  EXPECT_THAT(OpeningError(config_, Split::kVal), HasSubstr("val_annotations.txt:2: no class 'n02124076'"));
  Annotate("val_0.JPEG\tn02124075\t0\t32\t44\t62\nval_2.JPEG\tn02124075\t0\t32\t44\t62\n");
  EXPECT_THAT(OpeningError(config_, Split::kVal), HasSubstr("val_annotations.txt:2: no file 'val_2.JPEG'"));
  std::filesystem::remove(folder_.path("val/val_annotations.txt"));
  EXPECT_THAT(OpeningError(config_, Split::kVal), EndsWith("val_annotations.txt': No such file or directory"));
}

TEST_F(TinyImagenetTest, ImagesWithoutAnAnnotationArePassedOver) {
  Annotate("val_1.JPEG\tn01443537\t52\t55\t57\t59\n");
  const auto val = BuildPlugin<Dataset>(config_, {.split = Split::kVal});
  EXPECT_THAT(folder_.Samples(*val), ElementsAre("0:val/images/val_1.JPEG"));
  EXPECT_THAT(folder_.PassedOver(*val), ElementsAre("val/images/val_0.JPEG: in no list of labels"));
}

TEST_F(TinyImagenetTest, MissingPath) {
  config_.clear_path();
  EXPECT_THAT(OpeningError(config_, Split::kTrain), StartsWith("path: is required"));
  config_.set_path(folder_.path("test"));
  EXPECT_THAT(OpeningError(config_, Split::kTrain), EndsWith("test/train': No such file or directory"));
}

}  // namespace
}  // namespace graticule
