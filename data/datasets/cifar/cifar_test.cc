#include "data/datasets/cifar/cifar.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CifarTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
    config_.set_path(root_.string());
  }

  void Write(const std::string& path, const std::string& bytes) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path, std::ios::binary) << bytes;
  }

  // Labels, then planes: value of channel c at (y, x) is image + 80·c + 32·y + x, modulo 256.
  static std::string Record(const std::string& labels, int image) {
    std::string record = labels;
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < 32 * 32; ++i) record += static_cast<char>(image + 80 * c + i);
    }
    return record;
  }

  static std::string Lines(int n, const std::string& name) {
    std::string lines;
    for (int i = 0; i < n; ++i) lines += name + std::to_string(i) + "\n";
    return lines + "\n";
  }

  // Two images a batch; image i of all has label i.
  void WriteCifar10(const std::string& folder) {
    for (int batch = 0; batch < 5; ++batch) {
      Write(folder + "data_batch_" + std::to_string(batch + 1) + ".bin",
            Record({static_cast<char>(2 * batch)}, 2 * batch) +
                Record({static_cast<char>(2 * batch + 1)}, 2 * batch + 1));
    }
    Write(folder + "test_batch.bin", Record("\x07", 7));
    Write(folder + "batches.meta.txt", Lines(10, "thing"));
  }

  void WriteCifar100(const std::string& folder) {
    Write(folder + "train.bin", Record("\x03\x63", 0) + Record("\x13\x01", 1));
    Write(folder + "test.bin", Record("\x02\x05", 2));
    Write(folder + "fine_label_names.txt", Lines(100, "fine"));
    Write(folder + "coarse_label_names.txt", Lines(20, "coarse"));
  }

  std::unique_ptr<Dataset> Open(Split split) { return BuildPlugin<Dataset>(config_, {.split = split}); }
  std::string ErrorOf(Split split) {
    return Errors(Registry<Dataset>::Create(config_, DatasetContext{split}).status())["path"];
  }

  static std::vector<int64_t> Labels(const Dataset& dataset) {
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < dataset.size(); ++i) labels.push_back(dataset.Read(i)->label);
    return labels;
  }

  fs::path root_;
  Cifar config_;
};

TEST_F(CifarTest, TheBatchesOfCifar10ComeInOrder) {
  WriteCifar10("cifar-10-batches-bin/");
  const auto train = Open(Split::kTrain);
  EXPECT_THAT(Labels(*train), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(train->class_names().size(), 10u);
  EXPECT_EQ(train->class_names()[9], "thing9");
  EXPECT_EQ(train->SampleName(0), (root_ / "cifar-10-batches-bin/data_batch_1.bin[0]").string());
  EXPECT_EQ(train->SampleName(9), (root_ / "cifar-10-batches-bin/data_batch_5.bin[1]").string());
  EXPECT_THAT(Labels(*Open(Split::kVal)), ElementsAre(7));
}

TEST_F(CifarTest, PixelsComeChannelsLast) {
  WriteCifar10("");
  const auto train = Open(Split::kTrain);
  for (int64_t index = 0; index < train->size(); ++index) {
    const Image image = std::get<Image>(train->Read(index)->image);
    ASSERT_EQ(image.size(), (Size2d{32, 32}));
    ASSERT_EQ(image.pixels.size(), 3u * 32 * 32);
    for (int y = 0; y < 32; ++y) {
      for (int x = 0; x < 32; ++x) {
        for (int c = 0; c < 3; ++c) {
          ASSERT_EQ(image.pixels[3 * (32 * y + x) + c], static_cast<uint8_t>(index + 80 * c + 32 * y + x));
        }
      }
    }
  }
}

TEST_F(CifarTest, MoreRecordsThanAreReadAtATime) {
  std::string records;
  for (int i = 0; i < 2500; ++i) records += Record({static_cast<char>(i % 20), static_cast<char>(i % 100)}, i);
  WriteCifar100("");
  Write("train.bin", records);
  const auto train = Open(Split::kTrain);
  ASSERT_EQ(train->size(), 2500);
  for (int64_t i = 0; i < 2500; ++i) {
    const auto sample = train->Read(i);
    ASSERT_EQ(sample->label, i % 100);
    ASSERT_EQ(std::get<Image>(sample->image).pixels[0], static_cast<uint8_t>(i));
  }
}

TEST_F(CifarTest, Cifar100HasClassesAndSuperclasses) {
  WriteCifar100("cifar-100-binary/");
  EXPECT_THAT(Labels(*Open(Split::kTrain)), ElementsAre(99, 1));
  EXPECT_EQ(Open(Split::kTrain)->class_names()[99], "fine99");
  config_.set_num_classes(20);
  EXPECT_THAT(Labels(*Open(Split::kTrain)), ElementsAre(3, 19));
  EXPECT_THAT(Labels(*Open(Split::kVal)), ElementsAre(2));
  EXPECT_EQ(Open(Split::kVal)->class_names()[19], "coarse19");
}

TEST_F(CifarTest, NumClassesChoosesWhereBothAre) {
  WriteCifar10("cifar-10-batches-bin/");
  WriteCifar100("cifar-100-binary/");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("cifar-100-binary both have files of CIFAR"));
  config_.set_num_classes(10);
  EXPECT_EQ(Open(Split::kTrain)->class_names().size(), 10u);
  config_.set_num_classes(100);
  EXPECT_EQ(Open(Split::kTrain)->class_names().size(), 100u);
}

TEST_F(CifarTest, BadConfigs) {
  Cifar config;
  config.set_num_classes(7);
  const auto errors = Errors(Registry<Dataset>::Create(config, DatasetContext{}).status());
  EXPECT_THAT(errors.at("path"), HasSubstr("is required"));
  EXPECT_THAT(errors.at("num_classes"), HasSubstr("must be 10 (CIFAR-10), 100 (CIFAR-100) or 20"));
}

TEST_F(CifarTest, TheOtherDataSetOrNone) {
  EXPECT_THAT(ErrorOf(Split::kTrain),
              HasSubstr("no CIFAR-10 (data_batch_1.bin …), and no CIFAR-100 (train.bin …), and no "
                        "train/CLASS in"));
  WriteCifar10("");
  config_.set_num_classes(100);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("no CIFAR-100 (train.bin …), and no train/CLASS in"));
}

TEST_F(CifarTest, TheVersionForPythonIsNamed) {
  Write("cifar-10-batches-py/test_batch", "x");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("cifar-10-batches-py is the version for Python, whose pickles are not "
                                                "read: take cifar-10-binary.tar.gz from https://"));
  Write("train", "x");
  Write("test", "x");
  Write("meta", "x");
  config_.set_num_classes(20);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("take cifar-100-binary.tar.gz from https://"));
}

TEST_F(CifarTest, FoldersOfImageFiles) {
  for (int i = 0; i < 10; ++i) {
    for (const char* split : {"train/class", "test/class"}) {
      Write(split + std::to_string(i) + "/1.jpg", std::to_string(i));
    }
  }
  EXPECT_THAT(Labels(*Open(Split::kTrain)), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(Open(Split::kVal)->SampleName(7), (root_ / "test/class7/1.jpg").string());
  fs::rename(root_ / "test", root_ / "val");
  EXPECT_EQ(Open(Split::kVal)->SampleName(7), (root_ / "val/class7/1.jpg").string());
  config_.set_num_classes(100);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("train: must have the folders of 100 classes, found 10"));
  config_.clear_num_classes();
  fs::remove_all(root_ / "train/class3");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("train: must have the folders of 10 or 100 classes, found 9"));
}

TEST_F(CifarTest, MissingFiles) {
  WriteCifar10("");
  fs::remove(root_ / "data_batch_3.bin");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_3.bin': No such file"));
  EXPECT_NE(Open(Split::kVal), nullptr);
  fs::remove(root_ / "batches.meta.txt");
  EXPECT_THAT(ErrorOf(Split::kVal), HasSubstr("batches.meta.txt': No such file"));
}

TEST_F(CifarTest, WrongNumberOfClassNames) {
  WriteCifar10("");
  Write("batches.meta.txt", Lines(9, "thing"));
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("batches.meta.txt: must have the names of 10 classes, a line each, "
                                                "found 9"));
}

TEST_F(CifarTest, ALabelOutOfRange) {
  WriteCifar10("");
  Write("data_batch_2.bin", Record("\x02", 0) + Record("\x0a", 0));
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_2.bin[1]: has label 10; CIFAR-10 has labels 0 to 9"));
  WriteCifar100("cifar-100-binary/");
  Write("cifar-100-binary/train.bin", Record("\xff\x01", 0));
  config_.set_num_classes(20);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("train.bin[0]: has label 255; CIFAR-100 has labels 0 to 19"));
}

TEST_F(CifarTest, PartsOfTheDataSetAreNamed) {
  WriteCifar100("");
  EXPECT_THAT(Open(Split::kTrain)->PassedOver(),
              ElementsAre((root_ / "train.bin: has 2 images, in CIFAR-100 it has 50000").string()));
  std::string images;
  const std::string record = Record("\x02\x05", 2);
  for (int i = 0; i < 10'000; ++i) images += record;
  Write("test.bin", images);
  EXPECT_THAT(Open(Split::kVal)->PassedOver(), IsEmpty());
  Write("test.bin", images + record);
  EXPECT_THAT(Open(Split::kVal)->PassedOver(),
              ElementsAre((root_ / "test.bin: has 10001 images, in CIFAR-100 it has 10000").string()));
}

TEST_F(CifarTest, EachBatchOfCifar10HasTenThousandImages) {
  WriteCifar10("");
  const auto passed_over = Open(Split::kTrain)->PassedOver();
  ASSERT_EQ(passed_over.size(), 5u);
  EXPECT_EQ(passed_over[4], (root_ / "data_batch_5.bin: has 2 images, in CIFAR-10 it has 10000").string());
}

TEST_F(CifarTest, WhatIsNoFileOrTooLarge) {
  WriteCifar10("");
  fs::resize_file(root_ / "data_batch_2.bin", int64_t{4} << 40);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_2.bin: has 4398046511104 bytes; 1536500000 are allowed"));
  fs::remove(root_ / "data_batch_2.bin");
  ASSERT_EQ(mkfifo((root_ / "data_batch_2.bin").c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_2.bin'"));
}

TEST_F(CifarTest, CutFiles) {
  WriteCifar10("");
  const std::string record = Record("\x02", 0);
  Write("data_batch_5.bin", record + record.substr(0, 100));
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_5.bin[1]: ends after 100 of 3073 bytes"));
  Write("data_batch_5.bin", record);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_5.bin: 1 images, but "));
  Write("data_batch_5.bin", "");
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("data_batch_5.bin: is empty"));
  // A file of the other data set.
  WriteCifar100("");
  fs::remove(root_ / "data_batch_1.bin");
  fs::remove(root_ / "test_batch.bin");
  Write("train.bin", record);
  EXPECT_THAT(ErrorOf(Split::kTrain), HasSubstr("train.bin[0]: ends after 3073 of 3074 bytes"));
}

}  // namespace
}  // namespace graticule
