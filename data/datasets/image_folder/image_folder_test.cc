#include "data/datasets/image_folder/image_folder.h"

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <variant>

#include "data/datasets/test_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class ImageFolderTest : public ::testing::Test {
 protected:
  ImageFolderTest() { config_.set_path(folder_.path()); }

  std::unique_ptr<Dataset> Open(Split split) { return BuildPlugin<Dataset>(config_, {.split = split}); }
  std::string ErrorOf(Split split) { return OpeningError(config_, split); }

  TestFolder folder_;
  ImageFolder config_;
};

TEST_F(ImageFolderTest, ListsClassesAndFilesInOrder) {
  for (const char* name :
       {"train/dog/b.PNG", "train/dog/a.jpg", "train/dog/more/c.jpeg", "train/cat/z.JPG", "train/cat/ein Bär.webp",
        "train/.hidden/a.jpg", "train/cat/._z.JPG", "val/dog/1.jpg", "val/cat/2.jpg"}) {
    folder_.Write(name);
  }
  const std::unique_ptr<Dataset> train = Open(Split::kTrain), val = Open(Split::kVal);
  EXPECT_THAT(train->class_names(), ElementsAre("cat", "dog"));
  EXPECT_THAT(folder_.Samples(*train), ElementsAre("0:train/cat/ein Bär.webp", "0:train/cat/z.JPG", "1:train/dog/a.jpg",
                                                   "1:train/dog/b.PNG", "1:train/dog/more/c.jpeg"));
  EXPECT_THAT(folder_.Samples(*val), ElementsAre("0:val/cat/2.jpg", "1:val/dog/1.jpg"));
  EXPECT_THAT(train->PassedOver(), IsEmpty());
}

TEST_F(ImageFolderTest, NamesWhatItPassesOver) {
  for (const char* name : {"train/a/1.jpg", "train/a/notes.txt", "train/a/deep/2.gif", "train/b/1.jpg", "train/1.jpg",
                           "train/README", "val/a/1.jpg", "val/b/x.bmp"}) {
    folder_.Write(name);
  }
  EXPECT_THAT(folder_.PassedOver(*Open(Split::kTrain)),
              UnorderedElementsAre("train/1.jpg: not in a class folder", "train/README: not in a class folder",
                                   "train/a/notes.txt: not called an image (.jpg, .jpeg, .png, .webp)",
                                   "train/a/deep/2.gif: not called an image (.jpg, .jpeg, .png, .webp)"));
  EXPECT_THAT(folder_.PassedOver(*Open(Split::kVal)),
              UnorderedElementsAre(StartsWith("val/b/x.bmp"), "val/b: no images in it"));
}

TEST_F(ImageFolderTest, ValidationUsesTheClassesOfTraining) {
  for (const char* name : {"train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg"}) folder_.Write(name);
  const std::unique_ptr<Dataset> val = Open(Split::kVal);
  EXPECT_THAT(val->class_names(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(folder_.Samples(*val), ElementsAre("2:val/c/1.jpg"));
}

TEST_F(ImageFolderTest, SplitsMayHaveOtherNames) {
  folder_.Write("training/a/1.jpg");
  folder_.Write("test/a/2.jpg");
  config_.set_train("training");
  config_.set_val(folder_.path("test"));
  EXPECT_THAT(folder_.Samples(*Open(Split::kTrain)), ElementsAre("0:training/a/1.jpg"));
  EXPECT_THAT(folder_.Samples(*Open(Split::kVal)), ElementsAre("0:test/a/2.jpg"));
}

TEST_F(ImageFolderTest, AListSaysWhichClassesInWhichOrder) {
  for (const char* name : {"train/a/1.jpg", "train/b c/1.jpg", "train/ü/1.jpg", "val/a/1.jpg", "val/b c/1.jpg"}) {
    folder_.Write(name);
  }
  folder_.Write("classes.txt", "\xef\xbb\xbfü\r\n\r\nb c  \r\n");
  config_.set_classes("classes.txt");
  const std::unique_ptr<Dataset> train = Open(Split::kTrain);
  EXPECT_THAT(train->class_names(), ElementsAre("ü", "b c"));
  EXPECT_THAT(folder_.Samples(*train), ElementsAre("0:train/ü/1.jpg", "1:train/b c/1.jpg"));
  EXPECT_THAT(folder_.PassedOver(*train), ElementsAre("train/a: not a class"));
  // Validation needs nothing of training, and a class less.
  fs::remove_all(folder_.path("train"));
  const std::unique_ptr<Dataset> val = Open(Split::kVal);
  EXPECT_THAT(val->class_names(), ElementsAre("ü", "b c"));
  EXPECT_THAT(folder_.Samples(*val), ElementsAre("1:val/b c/1.jpg"));
}

TEST_F(ImageFolderTest, MistakesInTheList) {
  folder_.Write("train/a/1.jpg");
  config_.set_classes(folder_.path("classes.txt"));
  EXPECT_THAT(ErrorOf(Split::kTrain), AllOf(StartsWith("classes: "), HasSubstr("No such file or directory")));
  folder_.Write("classes.txt", " \n\n");
  EXPECT_THAT(ErrorOf(Split::kTrain), EndsWith("classes.txt: has no lines"));
  folder_.Write("classes.txt", "a\nb\n\na\n");
  EXPECT_THAT(ErrorOf(Split::kTrain), AllOf(HasSubstr("classes.txt:4: 'a' is at "), EndsWith("classes.txt:1 already")));
  folder_.Write("classes.txt", "a\nb\n");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("classes.txt:2: no folder 'b' in "));
}

TEST_F(ImageFolderTest, FollowsLinksAndSurvivesTheirCircles) {
  folder_.Write("elsewhere/1.jpg", "train/a/1.jpg");
  folder_.Write("elsewhere/more/2.jpg", "train/a/more/2.jpg");
  folder_.Link("../elsewhere", "train/a");
  folder_.Link("../../elsewhere", "elsewhere/more/loop");
  folder_.Link("more/2.jpg", "elsewhere/3.jpg");
  const std::unique_ptr<Dataset> train = Open(Split::kTrain);
  ASSERT_EQ(train->size(), 3);
  EXPECT_THAT(train->SampleName(0), EndsWith("train/a/1.jpg"));
  EXPECT_THAT(train->SampleName(1), EndsWith("train/a/3.jpg"));
  EXPECT_EQ(std::get<EncodedImage>(train->Read(1)->image).bytes, "train/a/more/2.jpg");
  EXPECT_THAT(folder_.PassedOver(*train), ElementsAre("train/a/more/loop: a link to a folder that it is in"));
}

TEST_F(ImageFolderTest, ALinkToTheSplitIsNoClass) {
  folder_.Write("train/a/1.jpg");
  folder_.Link(".", "train/self");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("for the classes self in"));
}

TEST_F(ImageFolderTest, WhatCantBeReadIsTheSamplesError) {
  for (const char* name : {"1", "2", "3"}) folder_.Write(std::string("train/a/") + name + ".jpg");
  folder_.Link("nowhere.jpg", "train/a/4.jpg");
  folder_.Pipe("train/a/5.jpg");
  folder_.Link("/dev/zero", "train/a/6.jpg");
  folder_.Link("7.jpg", "train/a/7.jpg");
  folder_.Write("train/a/8.jpg/inner.jpg");
  const std::unique_ptr<Dataset> train = Open(Split::kTrain);
  ASSERT_EQ(train->size(), 8);
  fs::remove(folder_.path("train/a/2.jpg"));
  folder_.Write("train/a/3.jpg", "");
  const auto error_of = [&](int64_t index) { return std::string(train->Read(index).status().message()); };
  EXPECT_TRUE(train->Read(0).ok());
  EXPECT_EQ(error_of(1),
            "cannot read the file (removed since the data set was opened, or a link that leads nowhere): "
            "No such file or directory");
  EXPECT_EQ(std::get<EncodedImage>(train->Read(2)->image).bytes, "");
  EXPECT_THAT(error_of(3), EndsWith("No such file or directory"));
  EXPECT_EQ(error_of(4), "not a file but a folder, a pipe or a device");
  EXPECT_EQ(error_of(5), "not a file but a folder, a pipe or a device");
  EXPECT_THAT(error_of(6), HasSubstr("Too many levels of symbolic links"));
  EXPECT_TRUE(train->Read(7).ok());
  fs::remove_all(folder_.path("train/a/8.jpg"));
  folder_.Write("train/a/8.jpg");
  EXPECT_THAT(error_of(7), EndsWith("Not a directory"));
  fs::resize_file(folder_.path("train/a/1.jpg"), uintmax_t{1} << 32);  // a hole
  EXPECT_EQ(error_of(0), "the file has 4294967296 bytes; 268435456 are allowed");
}

TEST_F(ImageFolderTest, AFileThatNoOneMayRead) {
  folder_.Write("train/a/1.jpg");
  fs::permissions(folder_.path("train/a/1.jpg"), fs::perms::none);
  if (::access(folder_.path("train/a/1.jpg").c_str(), R_OK) == 0) GTEST_SKIP() << "this user may read every file";
  EXPECT_THAT(std::string(Open(Split::kTrain)->Read(0).status().message()), EndsWith("Permission denied"));
}

TEST_F(ImageFolderTest, MissingPath) {
  config_.clear_path();
  EXPECT_THAT(ErrorOf(Split::kTrain), StartsWith("path: is required"));
  config_.set_path("/nowhere/at/all");
  EXPECT_THAT(ErrorOf(Split::kTrain),
              HasSubstr("path: cannot list '/nowhere/at/all/train': No such file or directory"));
}

TEST_F(ImageFolderTest, MissingSplit) {
  folder_.Write("train/a/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("/val': No such file or directory"));
  folder_.Write("val");  // a file in its place
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("/val': Not a directory"));
}

TEST_F(ImageFolderTest, NoClassFolders) {
  folder_.Write("train/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no class folders in"));
}

TEST_F(ImageFolderTest, NoImages) {
  folder_.Write("train/a/1.gif");
  folder_.Write("train/b/1.txt");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no images (.jpg, .jpeg, .png, .webp) in"));
}

TEST_F(ImageFolderTest, AClassWithoutTrainingImages) {
  folder_.Write("train/a/1.jpg");
  folder_.Write("train/b/1.gif");
  folder_.Write("val/a/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no images (.jpg, .jpeg, .png, .webp) for the classes b in"));
  EXPECT_NE(Open(Split::kVal), nullptr);
}

TEST_F(ImageFolderTest, ClassesThatTrainingLacks) {
  folder_.Write("train/a/1.jpg");
  folder_.Write("val/a/1.jpg");
  for (int i = 10; i < 30; ++i) folder_.Write("val/extra" + std::to_string(i) + "/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("lacks: extra10, extra11,"));
}

TEST_F(ImageFolderTest, AFolderThatCantBeListed) {
  folder_.Write("train/a/1.jpg");
  folder_.Write("train/b/1.jpg");
  fs::permissions(folder_.path("train/b"), fs::perms::none);
  const bool may = ::access(folder_.path("train/b").c_str(), R_OK) == 0;
  if (!may) EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("train/b': Permission denied"));
  fs::permissions(folder_.path("train/b"), fs::perms::owner_all);
  if (may) GTEST_SKIP() << "this user may read every folder";
}

TEST_F(ImageFolderTest, PathsAreOfTheWorkingDirectory) {
  folder_.Write("train/a/1.jpg");
  const fs::path before = fs::current_path();
  fs::current_path(fs::path(folder_.path()).parent_path());
  config_.set_path(fs::path(folder_.path()).filename().string());
  const std::unique_ptr<Dataset> train = Open(Split::kTrain);
  EXPECT_EQ(train->SampleName(0), config_.path() + "/train/a/1.jpg");
  EXPECT_TRUE(train->Read(0).ok());
  fs::current_path(before);
}

}  // namespace
}  // namespace graticule
