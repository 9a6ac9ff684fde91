#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "data/batch.h"
#include "data/batch_transforms/batch_transform.h"
#include "data/datasets/dataset.h"
#include "data/datasets/web_dataset/test_tar.h"
#include "data/decode/test_files.h"
#include "data/image.h"
#include "data/transforms/geometry.h"
#include "data/transforms/transform.h"
#include "tests/conformance/conformance.h"

namespace graticule {
namespace {

// CIFAR-10's files, an image in each.
void MakeCifar() {
  std::filesystem::create_directories("cifar");
  char label = 0;
  for (const char* file : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                           "data_batch_5.bin", "test_batch.bin"}) {
    std::ofstream(std::string("cifar/") + file) << label++ << std::string(3 * 32 * 32, 'x');
  }
  std::ofstream("cifar/batches.meta.txt") << "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
}

void WriteImage(const std::string& path, uint8_t grey) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << PngFile({8, 6, Pixels(3 * 8 * 6, grey)});
}

// A shard of three samples.
void MakeShard(const std::string& path) {
  std::vector<TarMember> members;
  for (int i = 0; i < 3; ++i) {
    members.push_back({std::to_string(i) + ".jpg", std::string(100 + i, 'x')});
    members.push_back({std::to_string(i) + ".cls", std::to_string(i % 2)});
  }
  WriteTar(path, members);
}

// Examples of data sets that live on disk say `path: "images"`, or a folder in it: two classes stand there.
void MakeImages() {
  std::filesystem::current_path(testing::TempDir());
  MakeCifar();
  for (const char* shard : {"shards/train-00.tar", "shards/train-01.tar", "shards/val-00.tar"}) MakeShard(shard);
  for (int i = 0; i < 3; ++i) {
    const std::string number = std::to_string(i);
    for (const char* split : {"train", "val"}) {
      for (const char* name : {"circle", "square"}) {
        WriteImage(std::string("images/") + split + "/" + name + "/" + number + ".png", 40 * i);
      }
    }
    for (const char* wnid : {"n00000001", "n00000002"}) {
      const std::string name = std::string("/") + wnid + "_" + number;
      WriteImage(std::string("images/imagenet/train/") + wnid + name + ".JPEG", 40 * i);
      WriteImage(std::string("images/tiny_imagenet/train/") + wnid + "/images" + name + ".JPEG", 40 * i);
      WriteImage(std::string("images/mini_imagenet/") + wnid + name + ".jpg", 40 * i);
    }
    WriteImage("images/imagenet/val/ILSVRC2012_val_0000000" + number + ".JPEG", 40 * i);
    WriteImage("images/tiny_imagenet/val/images/val_" + number + ".JPEG", 40 * i);
    for (const char* name : {"001.circle/001_000", "002.square/002_000"}) {
      WriteImage(std::string("images/caltech256/") + name + number + ".jpg", 40 * i);
    }
  }
  std::ofstream("images/imagenet/val.txt") << "ILSVRC2012_val_00000000.JPEG 0\n"
                                              "ILSVRC2012_val_00000001.JPEG 1\n"
                                              "ILSVRC2012_val_00000002.JPEG 1\n";
  std::ofstream("images/tiny_imagenet/val/val_annotations.txt") << "val_0.JPEG\tn00000001\t0\t0\t5\t5\n"
                                                                   "val_1.JPEG\tn00000002\t0\t0\t5\t5\n"
                                                                   "val_2.JPEG\tn00000002\t0\t0\t5\t5\n";
}

class DatasetConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  void SetUp() override { MakeImages(); }
  std::unique_ptr<Dataset> Open(Split split) {
    auto dataset = Registry<Dataset>::Create(Example(GetParam()), {.split = split});
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? *std::move(dataset) : nullptr;
  }
};

bool SameImage(const EncodedImage& a, const EncodedImage& b) { return a.bytes == b.bytes; }
bool SameImage(const Image& a, const Image& b) { return a == b; }

bool SameSample(const Sample& a, const Sample& b) {
  if (a.label != b.label || a.image.index() != b.image.index()) return false;
  const EncodedImage* encoded = std::get_if<EncodedImage>(&a.image);
  return encoded != nullptr ? SameImage(*encoded, std::get<EncodedImage>(b.image))
                            : SameImage(std::get<Image>(a.image), std::get<Image>(b.image));
}

TEST_P(DatasetConformance, EverySampleIsReadableLabelledAndNamed) {
  for (const Split split : {Split::kTrain, Split::kVal}) {
    const auto dataset = Open(split);
    ASSERT_NE(dataset, nullptr);
    ASSERT_GT(dataset->size(), 0);
    ASSERT_GT(dataset->class_names().size(), 0);
    for (int64_t i = 0; i < dataset->size(); ++i) {
      const auto sample = dataset->Read(i);
      ASSERT_TRUE(sample.ok()) << sample.status();
      EXPECT_GE(sample->label, 0);
      EXPECT_LT(sample->label, static_cast<int64_t>(dataset->class_names().size()));
      EXPECT_FALSE(dataset->SampleName(i).empty());
      if (const Image* image = std::get_if<Image>(&sample->image)) {
        EXPECT_GT(image->height, 0);
        EXPECT_EQ(static_cast<int64_t>(image->pixels.size()), image->height * image->width * 3);
      } else {
        EXPECT_FALSE(std::get<EncodedImage>(sample->image).bytes.empty());
      }
    }
  }
}

TEST_P(DatasetConformance, SplitsAgreeOnTheClasses) {
  EXPECT_EQ(Open(Split::kTrain)->class_names(), Open(Split::kVal)->class_names());
}

TEST_P(DatasetConformance, ReadingIsDeterministicAcrossThreadsAndObjects) {
  const auto a = Open(Split::kTrain), b = Open(Split::kTrain);
  ASSERT_EQ(a->size(), b->size());
  std::vector<std::thread> threads;
  std::vector<int> differences(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = t; i < a->size(); ++i) differences[t] += !SameSample(*a->Read(i), *b->Read(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(differences, std::vector<int>(4, 0));
}

TEST_P(DatasetConformance, BadConfigsAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto dataset = Registry<Dataset>::Create(config, {});
    EXPECT_TRUE(dataset.ok() || IsUserError(dataset.status())) << dataset.status();
  }
}

INSTANTIATE_TEST_SUITE_P(All, DatasetConformance, testing::ValuesIn(RegisteredPlugins("dataset")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DatasetConformance);

Image Gradient(int64_t height, int64_t width) {
  Image image{.height = height, .width = width};
  for (int64_t i = 0; i < height * width * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(i * 7));
  return image;
}

class TransformConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  std::unique_ptr<Transform> Make() {
    auto transform = Registry<Transform>::Create(Example(GetParam()), {.image_size = {8, 12}});
    EXPECT_TRUE(transform.ok()) << transform.status();
    return *std::move(transform);
  }
};

TEST_P(TransformConformance, LeavesAWholeImageWhateverItsSize) {
  const auto transform = Make();
  for (const auto& [height, width] : {std::pair(1, 1), std::pair(8, 8), std::pair(3, 200), std::pair(90, 5)}) {
    for (uint64_t key = 0; key < 20; ++key) {
      Image image = Gradient(height, width);
      Draws draws({key});
      transform->Apply(image, draws);
      EXPECT_GT(image.height, 0);
      EXPECT_GT(image.width, 0);
      EXPECT_EQ(static_cast<int64_t>(image.pixels.size()), image.height * image.width * 3);
    }
  }
}

TEST_P(TransformConformance, IsAFunctionOfImageAndDraws) {
  const auto a = Make(), b = Make();
  for (uint64_t key = 0; key < 20; ++key) {
    Image x = Gradient(30, 20), y = x;
    Draws draws_x({key}), draws_y({key});
    a->Apply(x, draws_x);
    b->Apply(y, draws_y);
    EXPECT_EQ(x, y);
  }
}

TEST_P(TransformConformance, AppliesItsWindowWithTheSameDraws) {
  const auto transform = Make();
  for (const auto& [height, width] : {std::pair(8, 12), std::pair(3, 200), std::pair(60, 50)}) {
    for (uint64_t key = 0; key < 20; ++key) {
      Image applied = Gradient(height, width), cut = applied;
      Draws of_apply({key}), of_window({key});
      const std::optional<ResizedWindow> window = transform->Window(cut.size(), of_window);
      if (window) {
        transform->Apply(applied, of_apply);
        ApplyWindow(*window, cut);
        EXPECT_EQ(applied, cut);
      }
      EXPECT_EQ(of_apply(), of_window());
    }
  }
}

TEST_P(TransformConformance, BadConfigsAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto transform = Registry<Transform>::Create(config, {.image_size = {8, 12}});
    EXPECT_TRUE(transform.ok() || IsUserError(transform.status())) << transform.status();
    if (!transform.ok()) continue;
    Image image = Gradient(9, 9);
    Draws draws({1});
    (*transform)->Apply(image, draws);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TransformConformance, testing::ValuesIn(RegisteredPlugins("transform")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TransformConformance);

constexpr int64_t kClasses = 5;

class BatchTransformConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  std::unique_ptr<BatchTransform> Make() {
    auto transform = Registry<BatchTransform>::Create(Example(GetParam()), {.num_classes = kClasses});
    EXPECT_TRUE(transform.ok()) << transform.status();
    return *std::move(transform);
  }
};

Batch BatchOfGradients(int64_t size, Size2d image) {
  const at::Tensor values = at::arange(size * 3 * image.area()).mul(7).remainder(256);
  const at::Tensor images = values.to(at::kByte).view({size, image.height, image.width, 3}).permute({0, 3, 1, 2});
  return {.images = images,
          .labels = at::arange(size).remainder(kClasses),
          .soft_labels = {},
          .indices = std::vector<int64_t>(size)};
}

TEST_P(BatchTransformConformance, LeavesABatchWithLabelsThatSumToOneWhateverItsSize) {
  const auto transform = Make();
  for (const int64_t size : {1, 2, 5, 8}) {
    for (const Size2d image : {Size2d{1, 1}, Size2d{8, 12}, Size2d{3, 40}}) {
      for (uint64_t key = 0; key < 20; ++key) {
        Batch batch = BatchOfGradients(size, image);
        const at::Tensor labels = batch.labels.clone();
        Draws draws({key});
        transform->Apply(batch, /*epoch=*/static_cast<int64_t>(key), draws);
        ASSERT_EQ(batch.images.sizes(), at::IntArrayRef({size, 3, image.height, image.width}));
        ASSERT_EQ(batch.images.scalar_type(), at::kByte);
        ASSERT_TRUE(batch.images.is_contiguous(at::MemoryFormat::ChannelsLast));
        ASSERT_TRUE(at::equal(batch.labels, labels));
        ASSERT_EQ(batch.indices.size(), static_cast<size_t>(size));
        if (!batch.soft_labels.defined()) continue;
        ASSERT_EQ(batch.soft_labels.sizes(), at::IntArrayRef({size, kClasses}));
        ASSERT_GE(batch.soft_labels.min().item<double>(), 0);
        ASSERT_LT((batch.soft_labels.sum(1) - 1).abs().max().item<double>(), 1e-5);
      }
    }
  }
}

TEST_P(BatchTransformConformance, IsAFunctionOfBatchEpochAndDraws) {
  const auto a = Make(), b = Make();
  for (uint64_t key = 0; key < 20; ++key) {
    Batch x = BatchOfGradients(6, {8, 12}), y = BatchOfGradients(6, {8, 12});
    Draws draws_x({key}), draws_y({key});
    a->Apply(x, static_cast<int64_t>(key), draws_x);
    b->Apply(y, static_cast<int64_t>(key), draws_y);
    EXPECT_TRUE(at::equal(x.images, y.images));
    ASSERT_EQ(x.soft_labels.defined(), y.soft_labels.defined());
    if (x.soft_labels.defined()) EXPECT_TRUE(at::equal(x.soft_labels, y.soft_labels));
  }
}

TEST_P(BatchTransformConformance, BadConfigsAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto transform = Registry<BatchTransform>::Create(config, {.num_classes = kClasses});
    EXPECT_TRUE(transform.ok() || IsUserError(transform.status())) << transform.status();
    if (!transform.ok()) continue;
    Batch batch = BatchOfGradients(4, {9, 9});
    Draws draws({1});
    (*transform)->Apply(batch, /*epoch=*/0, draws);
  }
}

INSTANTIATE_TEST_SUITE_P(All, BatchTransformConformance, testing::ValuesIn(RegisteredPlugins("batch_transform")),
                         TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BatchTransformConformance);

}  // namespace
}  // namespace graticule
