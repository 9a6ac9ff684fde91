#include "data/loader/loader.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "ATen/Parallel.h"
#include "ATen/ops/equal.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr Size2d kSize{4, 5};

// Sample i is a grey image of level i mod 256 with label i mod 7, unless `broken` says why not.
class GreyDataset : public Dataset {
 public:
  explicit GreyDataset(int64_t size, std::map<int64_t, std::string> broken = {})
      : size_(size), broken_(std::move(broken)) {}

  int64_t size() const override { return size_; }
  absl::StatusOr<Sample> Read(int64_t index) const override {
    ++reads;
    const auto broken = broken_.find(index);
    if (broken == broken_.end()) return Sample{Grey(index, kSize), index % 7};
    if (broken->second == "read") return absl::NotFoundError("no such file");
    if (broken->second == "throw") throw std::runtime_error("thrown by the dataset");
    if (broken->second == "size") return Sample{Grey(index, {kSize.height + 1, kSize.width}), 0};
    return Sample{EncodedImage(std::string("not an image")), 0};
  }
  std::string SampleName(int64_t index) const override { return absl::StrCat("grey[", index, "]"); }
  const std::vector<std::string>& class_names() const override { return class_names_; }

  static Image Grey(int64_t index, Size2d size) {
    return {size.height, size.width, Pixels(Image::kChannels * size.area(), static_cast<uint8_t>(index % 256))};
  }

  mutable std::atomic<int64_t> reads = 0;

 private:
  int64_t size_;
  std::map<int64_t, std::string> broken_;
  std::vector<std::string> class_names_ = std::vector<std::string>(7, "grey");
};

class FunctionTransform : public Transform {
 public:
  explicit FunctionTransform(std::function<void(Image&, Draws&)> function) : function_(std::move(function)) {}
  void Apply(Image& image, Draws& draws) const override { function_(image, draws); }

 private:
  std::function<void(Image&, Draws&)> function_;
};

const FunctionTransform& Noise() {
  static const FunctionTransform& noise = *new FunctionTransform([](Image& image, Draws& draws) {
    for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(draws.Below(256));
  });
  return noise;
}

LoaderOptions Options(int64_t batch_size) {
  LoaderOptions options;
  options.batch_size = batch_size;
  options.image_size = kSize;
  options.seed = 11;
  return options;
}

// The rest of the epoch.
std::vector<Batch> Drain(Loader& loader) {
  std::vector<Batch> batches;
  while (true) {
    absl::StatusOr<std::optional<Batch>> batch = loader.Next();
    EXPECT_TRUE(batch.ok()) << batch.status();
    if (!batch.ok() || !batch->has_value()) return batches;
    batches.push_back(std::move(**batch));
  }
}

std::vector<Batch> Epoch(const Dataset& dataset, const LoaderOptions& options, int64_t epoch = 0,
                         int64_t first_batch = 0) {
  Loader loader(&dataset, {&Noise()}, {}, options);
  loader.Start(epoch, first_batch);
  return Drain(loader);
}

std::vector<int64_t> Indices(const std::vector<Batch>& batches) {
  std::vector<int64_t> indices;
  for (const Batch& batch : batches) indices.insert(indices.end(), batch.indices.begin(), batch.indices.end());
  return indices;
}

void ExpectSame(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].indices, b[i].indices) << "batch " << i;
    EXPECT_TRUE(at::equal(a[i].images, b[i].images)) << "batch " << i;
    EXPECT_TRUE(at::equal(a[i].labels, b[i].labels)) << "batch " << i;
  }
}

// The error that ends the epoch.
std::string ErrorMessage(Loader& loader) {
  for (int64_t i = 0; i <= loader.batches_per_epoch(); ++i) {
    const absl::StatusOr<std::optional<Batch>> batch = loader.Next();
    if (!batch.ok()) return std::string(batch.status().message());
    if (!batch->has_value()) break;
  }
  return "none";
}

TEST(LoaderTest, BatchesHoldTheSamplesThatTheirIndicesName) {
  const GreyDataset dataset(300);
  Loader loader(&dataset, {}, {}, Options(16));
  loader.Start(0);
  const std::vector<Batch> batches = Drain(loader);
  ASSERT_EQ(batches.size(), 18u);
  for (const Batch& batch : batches) {
    EXPECT_THAT(batch.images.sizes(), ElementsAre(16, 3, kSize.height, kSize.width));
    EXPECT_EQ(batch.images.scalar_type(), at::kByte);
    EXPECT_TRUE(batch.images.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_EQ(batch.labels.scalar_type(), at::kLong);
    for (int64_t i = 0; i < batch.size(); ++i) {
      EXPECT_EQ(batch.labels[i].item<int64_t>(), batch.indices[i] % 7);
      EXPECT_TRUE(batch.images[i].eq(batch.indices[i] % 256).all().item<bool>());
    }
  }
}

TEST(LoaderTest, PixelsStayInTheirPlaces) {
  const GreyDataset dataset(4);
  const FunctionTransform mark([](Image& image, Draws&) {
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i);
  });
  Loader loader(&dataset, {&mark}, {}, Options(2));
  loader.Start(0);
  const std::vector<Batch> batches = Drain(loader);
  // Pixel (2, 3), channel 1.
  EXPECT_EQ(batches[1].images[1][1][2][3].item<int64_t>(), 3 * (2 * kSize.width + 3) + 1);
}

TEST(LoaderTest, AnEpochShowsEverySampleOnceInItsOwnOrder) {
  const GreyDataset dataset(97);
  LoaderOptions options = Options(10);
  options.drop_last = false;
  const std::vector<int64_t> first = Indices(Epoch(dataset, options, 0)), second = Indices(Epoch(dataset, options, 1));
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 97u);
  EXPECT_EQ(first.size(), 97u);
  EXPECT_NE(first, second);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  options.shuffle = false;
  const std::vector<int64_t> sorted = Indices(Epoch(dataset, options));
  EXPECT_TRUE(std::is_sorted(sorted.begin(), sorted.end()));
}

TEST(LoaderTest, DropLastRoundsDownElseUp) {
  const GreyDataset dataset(25);
  LoaderOptions options = Options(10);
  EXPECT_EQ(Loader(&dataset, {}, {}, options).batches_per_epoch(), 2);
  EXPECT_EQ(Epoch(dataset, options).size(), 2u);
  options.drop_last = false;
  EXPECT_EQ(Loader(&dataset, {}, {}, options).batches_per_epoch(), 3);
  EXPECT_EQ(Epoch(dataset, options).back().size(), 5);
}

TEST(LoaderTest, EmptyDatasetHasNoBatches) {
  const GreyDataset dataset(0);
  LoaderOptions options = Options(10);
  options.drop_last = false;
  EXPECT_TRUE(Epoch(dataset, options).empty());
}

TEST(LoaderTest, NothingComesBeforeStartAndAfterTheEnd) {
  const GreyDataset dataset(10);
  Loader loader(&dataset, {}, {}, Options(10));
  EXPECT_FALSE(loader.Next()->has_value());
  loader.Start(0);
  EXPECT_EQ(Drain(loader).size(), 1u);
  EXPECT_FALSE(loader.Next()->has_value());
}

TEST(LoaderTest, ThreadCountChangesNothing) {
  const GreyDataset dataset(500, {{17, "read"}, {18, "decode"}, {400, "size"}});
  for (const bool drop_last : {true, false}) {
    LoaderOptions options = Options(64);
    options.drop_last = drop_last;
    options.max_broken = 0.1;
    options.threads = 1;
    const std::vector<Batch> one = Epoch(dataset, options, 3);
    options.threads = 4;
    ExpectSame(one, Epoch(dataset, options, 3));
    options.batches_ahead = 1;
    ExpectSame(one, Epoch(dataset, options, 3));
  }
}

TEST(LoaderTest, AugmentationIsAFunctionOfSeedEpochAndSample) {
  const GreyDataset dataset(32);
  LoaderOptions options = Options(32);
  const auto row_of = [](const std::vector<Batch>& batches, int64_t index) {
    const std::vector<int64_t>& indices = batches[0].indices;
    return batches[0].images[std::find(indices.begin(), indices.end(), index) - indices.begin()];
  };
  const at::Tensor shuffled = row_of(Epoch(dataset, options), 5);
  EXPECT_FALSE(at::equal(shuffled, row_of(Epoch(dataset, options, 1), 5)));
  EXPECT_FALSE(at::equal(shuffled, row_of(Epoch(dataset, options), 6)));
  options.shuffle = false;
  EXPECT_TRUE(at::equal(shuffled, row_of(Epoch(dataset, options), 5)));
  options.seed = 12;
  EXPECT_FALSE(at::equal(shuffled, row_of(Epoch(dataset, options), 5)));
}

TEST(LoaderTest, StartingAtABatchGivesTheTailWithoutReadingTheHead) {
  const GreyDataset dataset(320, {{3, "read"}});
  LoaderOptions options = Options(16);
  options.max_broken = 0.01;
  std::vector<Batch> whole = Epoch(dataset, options, 2);
  dataset.reads = 0;
  const std::vector<Batch> tail = Epoch(dataset, options, 2, 17);
  EXPECT_LE(dataset.reads, 3 * 16 + 1);
  whole.erase(whole.begin(), whole.begin() + 17);
  ExpectSame(tail, whole);
  EXPECT_TRUE(Epoch(dataset, options, 2, 20).empty());
}

TEST(LoaderTest, RanksShareTheGlobalBatches) {
  const GreyDataset dataset(107);
  for (const bool drop_last : {true, false}) {
    LoaderOptions options = Options(12);
    options.drop_last = drop_last;
    const std::vector<Batch> global = Epoch(dataset, options);
    options.batch_size = 4;
    options.world_size = 3;
    std::vector<std::vector<Batch>> ranks;
    for (options.rank = 0; options.rank < 3; ++options.rank) {
      ranks.push_back(Epoch(dataset, options));
      EXPECT_EQ(Loader(&dataset, {}, {}, options).batches_per_epoch(), static_cast<int64_t>(ranks.back().size()));
    }
    // 107 = 8·12 + 11: ranks 0, 1 and 2 get 4, 4 and 3 of the last batch.
    EXPECT_EQ(ranks[2].size(), drop_last ? 8u : 9u);
    for (size_t g = 0; g < global.size(); ++g) {
      std::vector<int64_t> joined;
      std::vector<at::Tensor> images;
      for (const std::vector<Batch>& rank : ranks) {
        joined.insert(joined.end(), rank[g].indices.begin(), rank[g].indices.end());
      }
      EXPECT_EQ(joined, global[g].indices);
      EXPECT_TRUE(at::equal(ranks[1][g].images, global[g].images.narrow(0, 4, 4)));
    }
  }
}

TEST(LoaderTest, ARankMayHaveNoPartOfTheLastBatch) {
  const GreyDataset dataset(13);
  LoaderOptions options = Options(4);
  options.world_size = 2;
  options.drop_last = false;
  EXPECT_EQ(Epoch(dataset, options).size(), 2u);  // 4 and 4, of 8 and 5
  options.rank = 1;
  const std::vector<Batch> batches = Epoch(dataset, options);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[1].size(), 1);
  const GreyDataset smaller(12);
  EXPECT_EQ(Epoch(smaller, options).size(), 1u);
}

TEST(LoaderTest, InTrainingTheNextGoodSampleTakesABrokenOnesPlace) {
  const GreyDataset dataset(40, {{20, "read"}, {21, "throw"}, {39, "decode"}});
  LoaderOptions options = Options(10);
  options.shuffle = false;
  options.max_broken = 0.1;
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  const std::vector<Batch> batches = Drain(loader);
  ASSERT_EQ(batches.size(), 4u);
  EXPECT_THAT(batches[2].indices, ElementsAre(22, 22, 22, 23, 24, 25, 26, 27, 28, 29));
  EXPECT_EQ(batches[3].indices.back(), 0);  // the order goes round
  EXPECT_EQ(loader.broken(), 3);
  loader.Start(1);
  Drain(loader);
  EXPECT_EQ(loader.broken(), 3);
}

TEST(LoaderTest, InEvaluationBrokenSamplesAreLeftOut) {
  const GreyDataset dataset(
      25, {{0, "read"}, {12, "size"}, {20, "throw"}, {21, "read"}, {22, "read"}, {23, "read"}, {24, "read"}});
  LoaderOptions options = Options(5);
  options.shuffle = false;
  options.drop_last = false;
  options.max_broken = 0.3;
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  const std::vector<Batch> batches = Drain(loader);
  ASSERT_EQ(batches.size(), 4u);  // of the last one nothing is left
  EXPECT_THAT(batches[0].indices, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(batches[2].indices, ElementsAre(10, 11, 13, 14));
  EXPECT_EQ(batches[2].images[2].max().item<int64_t>(), 13);
  EXPECT_EQ(batches[2].labels[2].item<int64_t>(), 13 % 7);
  EXPECT_TRUE(batches[2].images.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_EQ(loader.broken(), 7);
}

TEST(LoaderTest, OneBrokenSampleOfAFewIsPassedOver) {
  const GreyDataset dataset(20, {{7, "decode"}});
  Loader loader(&dataset, {}, {}, Options(5));
  loader.Start(0);
  EXPECT_EQ(Drain(loader).size(), 4u);
  EXPECT_EQ(loader.broken(), 1);
}

TEST(LoaderTest, OneMoreThanMaxBrokenEndsTheEpoch) {
  const GreyDataset dataset(40, {{11, "read"}, {22, "decode"}, {33, "size"}});
  LoaderOptions options = Options(10);
  options.shuffle = false;
  options.max_broken = 0.05;
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(loader.Next().ok());
  const absl::Status status = loader.Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("3 of 40 samples are broken"));
  EXPECT_THAT(message, HasSubstr("max_broken 0.05 allows 2"));
  EXPECT_THAT(message, HasSubstr("grey[33]: 5x5 pixels after the transforms, but the model wants 4x5"));
  EXPECT_EQ(loader.Next().status(), status);
  // Another epoch begins anew.
  loader.Start(1);
  EXPECT_TRUE(loader.Next().ok());
}

TEST(LoaderTest, NoBrokenSampleMayBeAllowed) {
  const GreyDataset dataset(40, {{39, "read"}});
  LoaderOptions options = Options(10);
  options.max_broken = 0;
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  EXPECT_THAT(ErrorMessage(loader), HasSubstr("grey[39]: no such file"));
}

TEST(LoaderTest, ADatasetWithoutAGoodSampleIsAnError) {
  std::map<int64_t, std::string> all;
  for (int64_t i = 0; i < 30; ++i) all[i] = "throw";
  const GreyDataset dataset(30, all);
  for (const bool drop_last : {true, false}) {
    LoaderOptions options = Options(10);
    options.max_broken = 1;
    options.drop_last = drop_last;
    Loader loader(&dataset, {}, {}, options);
    loader.Start(0);
    EXPECT_THAT(ErrorMessage(loader), HasSubstr("30 of 30 samples are broken"));
  }
}

TEST(LoaderTest, BrokenSamplesAreNamedInTheLogOnce) {
  const GreyDataset dataset(20, {{7, "decode"}});
  Loader loader(&dataset, {}, {}, Options(5));
  ::testing::internal::CaptureStderr();
  for (int epoch = 0; epoch < 3; ++epoch) {
    loader.Start(epoch);
    Drain(loader);
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  const size_t at = log.find("grey[7]: neither a JPEG, a PNG nor a WebP");
  ASSERT_NE(at, std::string::npos) << log;
  EXPECT_THAT(log.substr(at + 1), Not(HasSubstr("grey[7]")));
}

TEST(LoaderTest, WhatATransformThrowsNamesTheSample) {
  const GreyDataset dataset(10);
  const FunctionTransform thrower([](Image& image, Draws&) {
    if (image.pixels[0] == 3) throw std::runtime_error("thrown by the transform");
  });
  LoaderOptions options = Options(10);
  options.max_broken = 0;
  Loader loader(&dataset, {&thrower}, {}, options);
  loader.Start(0);
  EXPECT_THAT(ErrorMessage(loader), HasSubstr("grey[3]: thrown by the transform"));
}

TEST(LoaderTest, StartAndDestructionInMidEpochDoNotHang) {
  const GreyDataset dataset(10000);
  const FunctionTransform slow([](Image&, Draws&) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
  LoaderOptions options = Options(50);
  options.threads = 3;
  options.batches_ahead = 2;
  Loader loader(&dataset, {&slow}, {}, options);
  for (int64_t epoch = 0; epoch < 20; ++epoch) {
    loader.Start(epoch, epoch);
    if (epoch % 3 == 0) EXPECT_TRUE(loader.Next().ok());
    if (epoch % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const absl::StatusOr<std::optional<Batch>> batch = loader.Next();
  ASSERT_TRUE(batch.ok());
  options.threads = 1;
  options.drop_last = false;
  Loader other(&dataset, {}, {}, options);
  other.Start(19, 19);
  EXPECT_EQ((*batch)->indices, (*other.Next())->indices);
}

TEST(LoaderTest, ReadsNoFurtherAheadThanItsQueue) {
  const GreyDataset dataset(1000);
  LoaderOptions options = Options(10);
  options.batches_ahead = 3;
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(dataset.reads, 30);
  ASSERT_TRUE(loader.Next().ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(dataset.reads, 40);
}

// Pages that the process holds.
int64_t ResidentPages() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident;
}

TEST(LoaderTest, MemoryIsFlatOverEpochs) {
  const GreyDataset dataset(512);
  const FunctionTransform grow([](Image& image, Draws&) { image = GreyDataset::Grey(1, {64, 64}); });
  LoaderOptions options = Options(32);  // 384 KiB a batch, 6 MiB an epoch
  options.image_size = {64, 64};
  options.threads = 3;
  Loader loader(&dataset, {&grow}, {}, options);
  int64_t before = 0;
  for (int64_t epoch = 0; epoch < 40; ++epoch) {
    if (epoch == 10) before = ResidentPages();
    loader.Start(epoch);
    Drain(loader);
  }
  EXPECT_LT((ResidentPages() - before) * ::sysconf(_SC_PAGESIZE), 8 << 20);
}

TEST(LoaderTest, WaitingIsCounted) {
  const GreyDataset dataset(20);
  const FunctionTransform slow([](Image&, Draws&) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  Loader loader(&dataset, {&slow}, {}, Options(10));
  EXPECT_EQ(loader.wait_seconds(), 0);
  loader.Start(0);
  ASSERT_TRUE(loader.Next().ok());
  EXPECT_GT(loader.wait_seconds(), 0.01);
}

TEST(LoaderTest, ItsThreadsRunKernelsAloneAndLeaveOtherThreadsTheirs) {
  at::set_num_threads(3);
  const GreyDataset dataset(100);
  std::atomic<int> most = 0;
  const FunctionTransform ask([&most](Image&, Draws&) { most = std::max(most.load(), at::get_num_threads()); });
  Loader loader(&dataset, {&ask}, {}, Options(10));
  loader.Start(0);
  Drain(loader);
  EXPECT_EQ(most, 1);
  EXPECT_EQ(at::get_num_threads(), 3);
  int later = 0;
  std::thread([&later] { later = at::get_num_threads(); }).join();
  EXPECT_EQ(later, 3);
}

}  // namespace
}  // namespace graticule
