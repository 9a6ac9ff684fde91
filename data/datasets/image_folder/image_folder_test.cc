#include "data/datasets/image_folder/image_folder.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ImageFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(::testing::TempDir()) / test->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
    config_.set_path(root_.string());
  }

  // A file that holds its own path.
  void Write(const std::string& path) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << path;
  }

  absl::StatusOr<std::unique_ptr<Dataset>> Create(Split split) {
    return Registry<Dataset>::Create(config_, DatasetContext{split});
  }

  std::unique_ptr<Dataset> Open(Split split) {
    absl::StatusOr<std::unique_ptr<Dataset>> dataset = Create(split);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? std::move(*dataset) : nullptr;
  }

  std::string ErrorOf(Split split) {
    const absl::StatusOr<std::unique_ptr<Dataset>> dataset = Create(split);
    if (dataset.ok()) return "none";
    EXPECT_EQ(FieldErrors::FromStatus(dataset.status()).at(0).path, "path");
    return std::string(dataset.status().message());
  }

  // LABEL:PATH of each sample, the path under the root.
  std::vector<std::string> Samples(const Dataset& dataset) {
    std::vector<std::string> samples;
    for (int64_t i = 0; i < dataset.size(); ++i) {
      const absl::StatusOr<Sample> sample = dataset.Read(i);
      samples.push_back(std::to_string(sample->label) + ":" + sample->name.substr(root_.string().size() + 1));
    }
    return samples;
  }

  fs::path root_;
  ImageFolder config_;
};

TEST_F(ImageFolderTest, ListsClassesAndFilesInOrder) {
  for (const char* path :
       {"train/dog/b.PNG", "train/dog/a.jpg", "train/dog/more/c.jpeg", "train/cat/z.JPG", "train/cat/notes.txt",
        "train/.hidden/a.jpg", "train/cat/._z.JPG", "train/README.md", "val/dog/1.jpg", "val/cat/2.jpg"}) {
    Write(path);
  }
  const std::unique_ptr<Dataset> train = Open(Split::kTrain), val = Open(Split::kVal);
  EXPECT_THAT(train->class_names(), ElementsAre("cat", "dog"));
  EXPECT_THAT(Samples(*train),
              ElementsAre("0:train/cat/z.JPG", "1:train/dog/a.jpg", "1:train/dog/b.PNG", "1:train/dog/more/c.jpeg"));
  EXPECT_THAT(Samples(*val), ElementsAre("0:val/cat/2.jpg", "1:val/dog/1.jpg"));
  EXPECT_EQ(std::get<std::string>(train->Read(0)->image), "train/cat/z.JPG");
}

TEST_F(ImageFolderTest, ValidationUsesTheClassesOfTraining) {
  for (const char* path : {"train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg"}) Write(path);
  const std::unique_ptr<Dataset> val = Open(Split::kVal);
  EXPECT_THAT(val->class_names(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Samples(*val), ElementsAre("2:val/c/1.jpg"));
}

TEST_F(ImageFolderTest, SplitsMayHaveOtherNames) {
  Write("training/a/1.jpg");
  Write("test/a/2.jpg");
  config_.set_train("training");
  config_.set_val("test");
  EXPECT_THAT(Samples(*Open(Split::kTrain)), ElementsAre("0:training/a/1.jpg"));
  EXPECT_THAT(Samples(*Open(Split::kVal)), ElementsAre("0:test/a/2.jpg"));
}

TEST_F(ImageFolderTest, FollowsLinksAndSurvivesTheirLoops) {
  Write("elsewhere/1.jpg");
  Write("elsewhere/more/2.jpg");
  fs::create_directories(root_ / "train");
  fs::create_directory_symlink("../elsewhere", root_ / "train/a");
  fs::create_directory_symlink("../../elsewhere", root_ / "elsewhere/more/loop");
  fs::create_symlink("1.jpg", root_ / "elsewhere/3.jpg");
  EXPECT_THAT(Samples(*Open(Split::kTrain)), ElementsAre("0:train/a/1.jpg", "0:train/a/3.jpg", "0:train/a/more/2.jpg"));
}

TEST_F(ImageFolderTest, AFileThatCantBeReadIsTheSamplesError) {
  Write("train/a/1.jpg");
  Write("train/a/3.jpg");
  fs::create_symlink("nowhere.jpg", root_ / "train/a/2.jpg");
  const std::unique_ptr<Dataset> train = Open(Split::kTrain);
  ASSERT_EQ(train->size(), 3);
  fs::remove(root_ / "train/a/3.jpg");
  EXPECT_TRUE(train->Read(0).ok());
  EXPECT_THAT(std::string(train->Read(1).status().message()), HasSubstr("train/a/2.jpg: No such file or directory"));
  EXPECT_THAT(std::string(train->Read(2).status().message()), HasSubstr("train/a/3.jpg: No such file or directory"));
}

TEST_F(ImageFolderTest, AnEmptyFileHasNoBytes) {
  Write("train/a/1.jpg");
  std::ofstream(root_ / "train/a/1.jpg", std::ios::trunc);
  EXPECT_EQ(std::get<std::string>(Open(Split::kTrain)->Read(0)->image), "");
}

TEST_F(ImageFolderTest, MissingPath) {
  config_.clear_path();
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("is required"));
  config_.set_path("/nowhere/at/all");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("can't list /nowhere/at/all/train: No such file or directory"));
}

TEST_F(ImageFolderTest, MissingSplit) {
  Write("train/a/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("/val: No such file or directory"));
  Write("val");  // a file in its place
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("/val: Not a directory"));
}

TEST_F(ImageFolderTest, NoClassFolders) {
  Write("train/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no class folders in"));
}

TEST_F(ImageFolderTest, NoImages) {
  Write("train/a/1.gif");
  Write("train/b/1.txt");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no images (.jpg, .jpeg, .png) in"));
}

TEST_F(ImageFolderTest, AClassWithoutTrainingImages) {
  Write("train/a/1.jpg");
  Write("train/b/1.gif");
  Write("val/a/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no images (.jpg, .jpeg, .png) for the classes b in"));
  EXPECT_NE(Open(Split::kVal), nullptr);
}

TEST_F(ImageFolderTest, ClassesThatTrainingLacks) {
  Write("train/a/1.jpg");
  Write("val/a/1.jpg");
  for (int i = 10; i < 30; ++i) Write("val/extra" + std::to_string(i) + "/1.jpg");
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("lacks: extra10, extra11,"));
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("extra19 and 10 more"));
}

TEST_F(ImageFolderTest, AFolderThatCantBeListed) {
  Write("train/a/1.jpg");
  Write("train/b/1.jpg");
  fs::permissions(root_ / "train/b", fs::perms::none);
  if (::access((root_ / "train/b").c_str(), R_OK) == 0) GTEST_SKIP() << "this user may read every folder";
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("train/b: Permission denied"));
  fs::permissions(root_ / "train/b", fs::perms::owner_all);
}

TEST_F(ImageFolderTest, PathsAreOfTheWorkingDirectory) {
  Write("train/a/1.jpg");
  const fs::path before = fs::current_path();
  fs::current_path(root_.parent_path());
  config_.set_path(root_.filename().string());
  const std::unique_ptr<Dataset> train = Open(Split::kTrain);
  EXPECT_EQ(train->Read(0)->name, root_.filename().string() + "/train/a/1.jpg");
  fs::current_path(before);
}

}  // namespace
}  // namespace graticule
