#include "data/loader/loader.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "ATen/Parallel.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/one_hot.h"
#include "absl/strings/str_cat.h"
#include "data/decode/test_files.h"
#include "data/loader/cached_dataset.h"
#include "data/transforms/geometry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

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
    if (broken->second == "folder") return absl::FailedPreconditionError("not a file but a folder");
    if (broken->second == "throw") throw std::runtime_error("thrown by the dataset");
    if (broken->second == "truncated") return absl::OutOfRangeError("ends after 7 rows");
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

// A window of half the image's sides, at random.
class HalfTransform : public Transform {
 public:
  explicit HalfTransform(Size2d size) : size_(size) {}
  void Apply(Image& image, Draws& draws) const override { ApplyWindow(*Window(image.size(), draws), image); }
  std::optional<ResizedWindow> Window(Size2d image, Draws& draws) const override {
    const Size2d half = image / 2;
    const int64_t top = draws.Below(half.height), left = draws.Below(half.width);
    return ResizedWindow{{top, left, half}, size_, BICUBIC};
  }

 private:
  Size2d size_;
};

class FunctionBatchTransform : public BatchTransform {
 public:
  explicit FunctionBatchTransform(std::function<void(Batch&, int64_t, Draws&)> function)
      : function_(std::move(function)) {}
  void Apply(Batch& batch, int64_t epoch, Draws& draws) const override { function_(batch, epoch, draws); }

 private:
  std::function<void(Batch&, int64_t, Draws&)> function_;
};

// Adds the batch, turned around, to itself, by a share that is drawn.
const FunctionBatchTransform& Mix() {
  static const FunctionBatchTransform& mix = *new FunctionBatchTransform([](Batch& batch, int64_t, Draws& draws) {
    const double share = draws.Uniform();
    const at::Tensor images = batch.images.to(at::kFloat), labels = at::one_hot(batch.labels, 7).to(at::kFloat);
    batch.images = (images * share + images.flip(0) * (1 - share)).to(at::kByte);
    batch.soft_labels = labels * share + labels.flip(0) * (1 - share);
  });
  return mix;
}

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
    ASSERT_EQ(a[i].soft_labels.defined(), b[i].soft_labels.defined());
    if (a[i].soft_labels.defined()) EXPECT_TRUE(at::equal(a[i].soft_labels, b[i].soft_labels)) << "batch " << i;
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
  const GreyDataset dataset(500, {{17, "read"}, {18, "decode"}, {400, "throw"}});
  for (const bool drop_last : {true, false}) {
    LoaderOptions options = Options(64);
    options.drop_last = drop_last;
    options.max_broken = 0.1;
    const auto epoch = [&] {
      Loader loader(&dataset, {&Noise()}, {&Mix()}, options);
      loader.Start(3);
      return Drain(loader);
    };
    options.threads = 1;
    const std::vector<Batch> one = epoch();
    EXPECT_TRUE(one[0].soft_labels.defined());
    for (const auto& [threads, batches_ahead] : {std::pair(2, 4), {5, 4}, {5, 1}}) {
      options.threads = threads;
      options.batches_ahead = batches_ahead;
      ExpectSame(one, epoch());
    }
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

class RunsDataset : public GreyDataset {
 public:
  using GreyDataset::GreyDataset;
  std::vector<int64_t> Runs() const override { return {size() / 2, size() / 4, size() - size() / 2 - size() / 4}; }
};

// What all ranks together see of global batches of 16, from one on.
std::vector<int64_t> SeenByAll(const Dataset& dataset, LoaderOptions options, int world_size, int64_t first_batch) {
  options.batch_size = 16 / world_size;
  options.world_size = world_size;
  std::vector<std::vector<Batch>> ranks;
  for (options.rank = 0; options.rank < world_size; ++options.rank) {
    ranks.push_back(Epoch(dataset, options, 4, first_batch));
  }
  std::vector<int64_t> seen;
  for (size_t batch = 0; batch < ranks[0].size(); ++batch) {
    for (const std::vector<Batch>& rank : ranks) {
      seen.insert(seen.end(), rank[batch].indices.begin(), rank[batch].indices.end());
    }
  }
  return seen;
}

TEST(LoaderTest, TheGlobalOrderIsTheSameForEveryNumberOfRanks) {
  const GreyDataset whole(200);
  const RunsDataset runs(200);
  for (const Dataset* dataset : {static_cast<const Dataset*>(&whole), static_cast<const Dataset*>(&runs)}) {
    for (const int64_t repeats : {1, 3}) {
      LoaderOptions options = Options(16);
      options.repeats = repeats;
      options.shuffle_buffer = 50;
      const std::vector<int64_t> one = SeenByAll(*dataset, options, 1, 0);
      ASSERT_EQ(one.size(), 192u);
      const std::vector<int64_t> tail(one.begin() + 16 * 5, one.end());
      for (const int world_size : {2, 4}) {
        EXPECT_EQ(SeenByAll(*dataset, options, world_size, 0), one);
        // Goes on in the middle, whatever the number was before.
        EXPECT_EQ(SeenByAll(*dataset, options, world_size, 5), tail);
      }
    }
  }
}

TEST(LoaderTest, RunsAreReadOneAfterTheOther) {
  const RunsDataset dataset(400);
  LoaderOptions options = Options(10);
  options.shuffle_buffer = 20;
  // At the borders of a run, a buffer may hold two.
  std::vector<int64_t> runs;
  for (const int64_t index : Indices(Epoch(dataset, options))) runs.push_back(index < 200 ? 0 : index < 300 ? 1 : 2);
  int64_t changes = 0;
  for (size_t i = 1; i < runs.size(); ++i) changes += runs[i] != runs[i - 1];
  EXPECT_LE(changes, 2);  // 200 and 100 are multiples of 20
}

TEST(LoaderTest, RepeatsAreCopiesWithDrawsOfTheirOwn) {
  const GreyDataset dataset(60);
  LoaderOptions options = Options(12);
  options.repeats = 3;
  const std::vector<Batch> batches = Epoch(dataset, options);
  ASSERT_EQ(batches.size(), 5u);  // as long as without
  std::set<int64_t> seen;
  for (const Batch& batch : batches) {
    for (int64_t i = 0; i < 12; i += 3) {
      EXPECT_EQ(batch.indices[i], batch.indices[i + 1]);
      EXPECT_EQ(batch.indices[i], batch.indices[i + 2]);
      EXPECT_TRUE(seen.insert(batch.indices[i]).second);
      EXPECT_FALSE(at::equal(batch.images[i], batch.images[i + 1]));
      EXPECT_FALSE(at::equal(batch.images[i], batch.images[i + 2]));
      EXPECT_FALSE(at::equal(batch.images[i + 1], batch.images[i + 2]));
    }
  }
  EXPECT_EQ(seen.size(), 20u);
  // The first copy is what the sample is without repeats.
  options.repeats = 1;
  const std::vector<Batch> once = Epoch(dataset, options);
  EXPECT_EQ(once[0].indices[0], batches[0].indices[0]);
  EXPECT_TRUE(at::equal(once[0].images[0], batches[0].images[0]));
}

TEST(LoaderTest, EveryEpochOfRepeatsShowsOthers) {
  const GreyDataset dataset(300);
  LoaderOptions options = Options(30);
  options.repeats = 3;
  std::map<int64_t, int> times;
  for (int64_t epoch = 0; epoch < 30; ++epoch) {
    for (const int64_t index : Indices(Epoch(dataset, options, epoch))) ++times[index];
  }
  // An epoch shows a third of the samples: (2/3)^30 · 300 = 0.002 samples never.
  EXPECT_EQ(times.size(), 300u);
  // Each 3 · Binomial(30, 1/3) times: 30 on average, with a deviation of 7.7.
  double variance = 0;
  for (const auto& [index, count] : times) variance += (count - 30) * (count - 30) / 300.0;
  EXPECT_NEAR(variance, 60, 20);
}

TEST(LoaderTest, ABrokenSampleIsReplacedForAllItsRepeats) {
  const GreyDataset dataset(60, {{7, "read"}});
  LoaderOptions options = Options(30);
  options.repeats = 3;
  options.shuffle = false;
  Loader loader(&dataset, {&Noise()}, {}, options);
  loader.Start(0);
  const std::vector<Batch> batches = Drain(loader);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(std::count(batches[0].indices.begin(), batches[0].indices.end(), 8), 6);
  EXPECT_EQ(loader.broken(), 1);
}

TEST(LoaderTest, BatchTransformsSeeWholeBatchesAndDrawByTheirPlace) {
  const GreyDataset dataset(70, {{5, "read"}});
  LoaderOptions options = Options(16);
  options.drop_last = false;
  options.shuffle = false;
  std::set<uint64_t> drawn;
  std::map<int64_t, int> batches_of;
  std::mutex mutex;
  const FunctionBatchTransform look([&](Batch& batch, int64_t epoch, Draws& draws) {
    EXPECT_EQ(batch.labels.size(0), batch.size());
    EXPECT_EQ(static_cast<int64_t>(batch.indices.size()), batch.size());
    EXPECT_TRUE(batch.images.is_contiguous(at::MemoryFormat::ChannelsLast));
    for (int64_t i = 0; i < batch.size(); ++i) {
      EXPECT_TRUE(batch.images[i].eq(batch.indices[i]).all().item<bool>());
    }
    const std::lock_guard lock(mutex);
    drawn.insert(draws());
    ++batches_of[epoch];
  });
  const FunctionBatchTransform mark(
      [](Batch& batch, int64_t, Draws&) { batch.soft_labels = batch.labels.to(at::kFloat); });
  Loader loader(&dataset, {}, {&look, &mark}, options);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    loader.Start(epoch);
    std::vector<int64_t> sizes;
    for (const Batch& batch : Drain(loader)) {
      sizes.push_back(batch.size());
      EXPECT_TRUE(at::equal(batch.soft_labels, batch.labels.to(at::kFloat)));
    }
    EXPECT_THAT(sizes, ElementsAre(15, 16, 16, 16, 6));
  }
  EXPECT_EQ(drawn.size(), 10u);  // each batch of each epoch its own
  EXPECT_THAT(batches_of, ElementsAre(Pair(0, 5), Pair(1, 5)));
}

TEST(LoaderTest, WhatABatchTransformThrowsEndsTheEpoch) {
  const GreyDataset dataset(30);
  const FunctionBatchTransform thrower(
      [](Batch&, int64_t, Draws&) { throw std::runtime_error("thrown by the mixing"); });
  Loader loader(&dataset, {}, {&thrower}, Options(10));
  loader.Start(0);
  EXPECT_THAT(ErrorMessage(loader), HasSubstr("data.batch_transforms: thrown by the mixing"));
  EXPECT_FALSE(loader.Next().ok());
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

TEST(LoaderTest, ASubstituteDrawsOtherwiseThanInItsOwnPlace) {
  const GreyDataset dataset(40, {{20, "read"}, {21, "throw"}});
  LoaderOptions options = Options(10);
  options.shuffle = false;
  options.max_broken = 0.1;
  const at::Tensor images = Epoch(dataset, options)[2].images;
  for (const auto& [a, b] : {std::pair(0, 1), {0, 2}, {1, 2}}) EXPECT_FALSE(at::equal(images[a], images[b]));
  // Which draws as if no sample were broken.
  const GreyDataset good(40);
  EXPECT_TRUE(at::equal(images.slice(0, 2), Epoch(good, options)[2].images.slice(0, 2)));
}

TEST(LoaderTest, InEvaluationBrokenSamplesAreLeftOut) {
  const GreyDataset dataset(
      25, {{0, "read"}, {12, "throw"}, {20, "throw"}, {21, "read"}, {22, "read"}, {23, "read"}, {24, "read"}});
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
  const GreyDataset dataset(40, {{11, "read"}, {22, "decode"}, {33, "throw"}});
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
  EXPECT_THAT(message, HasSubstr("thrown by the dataset"));
  EXPECT_EQ(loader.Next().status(), status);
  // Another epoch begins anew.
  loader.Start(1);
  EXPECT_TRUE(loader.Next().ok());
}

TEST(LoaderTest, AnImageOfAnotherSizeEndsTheEpochWhateverMaxBrokenSays) {
  const GreyDataset dataset(40, {{3, "folder"}, {12, "size"}, {13, "size"}});
  for (const bool drop_last : {true, false}) {
    for (const int threads : {1, 4}) {
      LoaderOptions options = Options(10);
      options.shuffle = false;
      options.drop_last = drop_last;
      options.threads = threads;
      options.max_broken = 0.5;
      Loader loader(&dataset, {}, {}, options);
      loader.Start(0);
      EXPECT_TRUE(loader.Next().ok());
      const absl::Status status = loader.Next().status();
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(status.message(), "grey[12]: 5x5 pixels after the transforms, but the model wants 4x5");
      EXPECT_EQ(loader.broken(), 1);
    }
  }
}

TEST(LoaderTest, MaxBrokenIsAShareOfWhatAnEpochShows) {
  std::map<int64_t, std::string> broken;
  for (int64_t i = 0; i < 8; ++i) broken[i] = "read";
  LoaderOptions options = Options(30);
  options.shuffle = false;
  options.repeats = 3;
  options.max_broken = 0.1;
  const GreyDataset dataset(90, broken);
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  // A tenth of 30.
  EXPECT_THAT(ErrorMessage(loader), HasSubstr("4 of 30 samples are broken so far, and max_broken 0.1 allows 3;"));
  broken = {{0, "read"}, {1, "read"}, {2, "read"}};
  const GreyDataset better(90, broken);
  Loader other(&better, {}, {}, options);
  other.Start(0);
  EXPECT_EQ(Drain(other).size(), 3u);
}

TEST(LoaderTest, WhatABatchHasNoMemoryForEndsTheEpoch) {
  const GreyDataset dataset(30);
  LoaderOptions options = Options(10);
  options.image_size = {int64_t{1} << 31, int64_t{1} << 31};
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  EXPECT_THAT(ErrorMessage(loader), HasSubstr("memory of a batch: "));
  EXPECT_FALSE(loader.Next().ok());
  loader.Start(1);
  EXPECT_FALSE(loader.Next().ok());
}

TEST(LoaderTest, NoBrokenSampleMayBeAllowed) {
  const GreyDataset dataset(40, {{39, "read"}});
  LoaderOptions options = Options(10);
  options.max_broken = 0;
  Loader loader(&dataset, {}, {}, options);
  loader.Start(0);
  EXPECT_THAT(ErrorMessage(loader), HasSubstr("grey[39]: no such file"));
}

TEST(LoaderTest, ATruncatedFileMayEndTheEpochWhateverMaxBrokenSays) {
  const GreyDataset dataset(40, {{3, "read"}, {15, "truncated"}});
  LoaderOptions options = Options(10);
  options.shuffle = false;
  options.max_broken = 0.5;
  Loader patient(&dataset, {}, {}, options);
  patient.Start(0);
  EXPECT_EQ(Drain(patient).size(), 4u);
  options.stop_at_truncated = true;
  Loader strict(&dataset, {}, {}, options);
  strict.Start(0);
  EXPECT_TRUE(strict.Next().ok());
  const absl::Status status = strict.Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "a truncated file ends the run: grey[15]: ends after 7 rows");
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

// PNG files of noise, between 30 and 50 pixels a side.
class PngDataset : public GreyDataset {
 public:
  explicit PngDataset(int64_t size) : GreyDataset(size) {
    for (int64_t i = 0; i < kFiles; ++i) {
      Image image{50 - i, 30 + i, Pixels(3 * (50 - i) * (30 + i))};
      Draws draws({static_cast<uint64_t>(i)});
      for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(draws.Below(256));
      files_.push_back(PngFile(image));
    }
  }
  absl::StatusOr<Sample> Read(int64_t index) const override {
    return Sample{EncodedImage(files_[index % kFiles]), index % 7};
  }

 private:
  static constexpr int64_t kFiles = 20;
  std::vector<std::string> files_;
};

TEST(LoaderTest, AWindowIsCutByTheSameDrawsHoweverItIsDecoded) {
  const PngDataset dataset(40);
  const HalfTransform half(kSize);
  const FunctionTransform apply([&half](Image& image, Draws& draws) { half.Apply(image, draws); });
  // A draw that comes after the window's.
  const FunctionTransform mark([](Image& image, Draws& draws) { image.pixels[0] = draws() >> 56; });
  const auto epoch = [&](const Transform* transform, bool exact, int threads) {
    LoaderOptions options = Options(10);
    options.exact = exact;
    options.threads = threads;
    Loader loader(&dataset, {transform, &mark}, {&Mix()}, options);
    loader.Start(0);
    return Drain(loader);
  };
  const std::vector<Batch> applied = epoch(&apply, true, 1);
  ASSERT_EQ(applied.size(), 4u);
  for (const int threads : {1, 2, 5}) {
    ExpectSame(epoch(&half, true, threads), applied);
    ExpectSame(epoch(&half, false, threads), applied);  // a PNG is never decoded at another size
  }
}

// A batch takes 384 KiB and an epoch 1.5 MiB, so a batch an epoch that is not given back takes 8 MiB more in the end.
TEST(LoaderTest, MemoryIsFlatOverEpochs) {
  // So that glibc gives back at once what is freed; each of its arenas would else keep some megabytes for later.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 10);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 10);
  const HalfTransform half({64, 64});
  LoaderOptions options = Options(32);
  options.image_size = {64, 64};
  options.threads = 3;
  options.exact = false;
  for (const bool cached : {false, true}) {
    std::unique_ptr<Dataset> dataset = std::make_unique<PngDataset>(128);
    if (cached) {
      dataset = std::make_unique<CachedDataset>(std::move(dataset), Cache::ENCODED,
                                                std::make_shared<std::atomic<int64_t>>(1 << 18), DecodeOptions());
    }
    Loader loader(dataset.get(), {&half}, {&Mix()}, options);
    int64_t before = 0;
    for (int64_t epoch = 0; epoch < 24; ++epoch) {
      if (epoch == 2) before = ResidentPages();
      loader.Start(epoch);
      Drain(loader);
    }
    EXPECT_LT((ResidentPages() - before) * ::sysconf(_SC_PAGESIZE), 3 << 20) << cached;
  }
}

TEST(LoaderTest, ItsThreadsTellWhatTheyWorked) {
  class SlowDataset : public GreyDataset {
   public:
    using GreyDataset::GreyDataset;
    absl::StatusOr<Sample> Read(int64_t index) const override {
      std::this_thread::sleep_for(std::chrono::milliseconds(4));
      return GreyDataset::Read(index);
    }
  };
  const SlowDataset dataset(40);
  const FunctionTransform slow([](Image&, Draws&) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); });
  LoaderOptions options = Options(20);
  Loader loader(&dataset, {&slow}, {}, options);
  loader.Start(0);
  Drain(loader);
  const LoaderTimes times = loader.times();
  EXPECT_GE(times.read, 0.160);
  EXPECT_GE(times.augment, 0.080);
  EXPECT_GT(times.read, times.augment);
  EXPECT_EQ(times.decode, 0);
  EXPECT_EQ(times.resize, 0);
  EXPECT_GT(times.collate, 0);
  EXPECT_LT(times.collate, times.augment);

  const PngDataset files(20);
  const HalfTransform half(kSize);
  for (const bool exact : {true, false}) {
    options.exact = exact;
    Loader other(&files, {&half}, {}, options);
    other.Start(0);
    Drain(other);
    EXPECT_GT(other.times().decode, 0);
    EXPECT_GT(other.times().resize, 0);
  }
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
