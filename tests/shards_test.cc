// From tar files to batches: every sample once an epoch, however many threads and ranks read the shards.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/batch.h"
#include "data/datasets/dataset.h"
#include "data/datasets/web_dataset/test_tar.h"
#include "data/datasets/web_dataset/web_dataset.pb.h"
#include "data/decode/test_files.h"
#include "data/image.h"
#include "data/loader/loader.h"
#include "gtest/gtest.h"
#include "nn/size2d.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

constexpr int kSamples = 96;
constexpr Size2d kSize{4, 4};

// A PNG file of one grey level.
std::string Png(int grey) {
  return PngFile({kSize.height, kSize.width, Pixels(3 * kSize.area(), static_cast<uint8_t>(grey))});
}

class ShardsTest : public testing::Test {
 protected:
  // Sample i is an image of level i with label i mod 10, in shards of different sizes.
  void SetUp() override {
    root_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    int sample = 0, shard = 0;
    for (const int size : {11, 30, 1, 20, 34}) {
      std::vector<TarMember> members;
      for (int i = 0; i < size; ++i, ++sample) {
        members.push_back({absl::StrCat(sample, ".png"), Png(sample)});
        members.push_back({absl::StrCat(sample, ".cls"), absl::StrCat(sample % 10)});
      }
      WriteTar(absl::StrCat(root_, "/train-", shard++, ".tar"), members);
    }
    ASSERT_EQ(sample, kSamples);
  }

  std::unique_ptr<Dataset> Open() const {
    WebDataset config;
    config.add_train(root_ + "/train-{0..4}.tar");
    config.set_num_classes(10);
    auto dataset = Registry<Dataset>::Create(config, DatasetContext{.split = Split::kTrain});
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return *std::move(dataset);
  }

  static LoaderOptions Options() {
    LoaderOptions options;
    options.batch_size = 8;
    options.image_size = kSize;
    options.threads = 3;
    options.seed = 5;
    options.shuffle_buffer = 12;
    return options;
  }

  // The levels of an epoch's images, in the order of the batches; expects that the labels are theirs.
  static std::vector<int> Levels(Loader& loader, int64_t epoch, int64_t first_batch = 0) {
    std::vector<int> levels;
    loader.Start(epoch, first_batch);
    while (true) {
      const auto batch = loader.Next();
      EXPECT_TRUE(batch.ok()) << batch.status();
      if (!batch.ok() || !batch->has_value()) return levels;
      for (int64_t i = 0; i < (*batch)->size(); ++i) {
        levels.push_back((*batch)->images[i][0][0][0].item<int>());
        EXPECT_EQ((*batch)->labels[i].item<int64_t>(), levels.back() % 10);
      }
    }
  }

  static std::vector<int> Sorted(std::vector<int> levels) {
    std::sort(levels.begin(), levels.end());
    return levels;
  }

  static std::vector<int> All() {
    std::vector<int> all(kSamples);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  std::string root_;
};

TEST_F(ShardsTest, EveryEpochShowsEverySampleOnceInAnOrderOfItsOwn) {
  const auto dataset = Open();
  Loader loader(dataset.get(), {}, {}, Options());
  const std::vector<int> first = Levels(loader, 0), second = Levels(loader, 1);
  EXPECT_EQ(Sorted(first), All());
  EXPECT_EQ(Sorted(second), All());
  EXPECT_NE(first, second);
  EXPECT_NE(first, All());
  // Again, from the middle.
  EXPECT_EQ(Levels(loader, 1, 7), std::vector<int>(second.begin() + 7 * 8, second.end()));
}

TEST_F(ShardsTest, RanksShareTheSamplesNotTheShards) {
  const auto dataset = Open();
  LoaderOptions options = Options();
  Loader alone(dataset.get(), {}, {}, options);
  options.batch_size = 4;
  options.world_size = 2;
  Loader rank_0(dataset.get(), {}, {}, options);
  options.rank = 1;
  options.threads = 1;
  Loader rank_1(dataset.get(), {}, {}, options);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    const std::vector<int> even = Levels(rank_0, epoch), odd = Levels(rank_1, epoch);
    ASSERT_EQ(even.size(), kSamples / 2u);
    ASSERT_EQ(odd.size(), kSamples / 2u);
    std::vector<int> both;
    for (size_t i = 0; i < even.size(); i += 4) {
      both.insert(both.end(), even.begin() + i, even.begin() + i + 4);
      both.insert(both.end(), odd.begin() + i, odd.begin() + i + 4);
    }
    EXPECT_EQ(Sorted(both), All());
    EXPECT_EQ(both, Levels(alone, epoch));
  }
}

TEST_F(ShardsTest, ASmallBufferReadsShardAfterShard) {
  const auto dataset = Open();
  LoaderOptions options = Options();
  options.shuffle_buffer = 1;
  options.threads = 1;
  Loader loader(dataset.get(), {}, {}, options);
  std::vector<int> order = Levels(loader, 0);
  EXPECT_NE(order, All());
  int breaks = 0;
  for (size_t i = 1; i < order.size(); ++i) breaks += order[i] != order[i - 1] + 1;
  EXPECT_LE(breaks, 4);  // between five shards
}

TEST_F(ShardsTest, ACutShardCostsWhatItLost) {
  const std::string last = root_ + "/train-4.tar";
  // A header, the image, a header, the label: 2 kB a sample.
  ASSERT_LT(Png(90).size(), 512u);
  fs::resize_file(last, 20 * 4 * 512 + 600);
  const auto dataset = Open();
  ASSERT_EQ(dataset->size(), kSamples - 34 + 20 + 1);
  EXPECT_EQ(dataset->SampleName(dataset->size() - 1), last + ":82");
  LoaderOptions options = Options();
  options.drop_last = false;
  options.shuffle = false;
  Loader loader(dataset.get(), {}, {}, options);
  const std::vector<int> all = All();
  EXPECT_EQ(Levels(loader, 0), std::vector<int>(all.begin(), all.begin() + 82));
  EXPECT_EQ(loader.broken(), 1);
}

}  // namespace
}  // namespace graticule
