#include "data/loader/cached_dataset.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "data/decode/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kSide = 20;

Image Picture(int64_t index) {
  Image image{kSide, kSide, Pixels(3 * kSide * kSide)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(7 * i + index);
  return image;
}

// Sample i is Picture(i) with label i mod 3, as a PNG file or as it is; the last one is broken at first.
class PictureDataset : public Dataset {
 public:
  PictureDataset(int64_t size, bool encoded, std::atomic<int64_t>* reads)
      : size_(size), encoded_(encoded), reads_(reads) {}

  int64_t size() const override { return size_; }
  absl::StatusOr<Sample> Read(int64_t index) const override {
    if (++*reads_; index == size_ - 1 && *reads_ == 1) return absl::UnavailableError("not yet");
    if (!encoded_) return Sample{Picture(index), index % 3};
    if (index == 0) return Sample{EncodedImage(std::string("no image")), 0};
    return Sample{EncodedImage(PngFile(Picture(index))), index % 3};
  }
  std::string SampleName(int64_t index) const override { return absl::StrCat("picture[", index, "]"); }
  const std::vector<std::string>& class_names() const override { return class_names_; }
  std::vector<int64_t> Runs() const override { return {size_ - 1, 1}; }
  std::vector<std::string> PassedOver() const override { return {"README: no image"}; }

 private:
  int64_t size_;
  bool encoded_;
  std::atomic<int64_t>* reads_;
  std::vector<std::string> class_names_ = {"a", "b", "c"};
};

struct Cached {
  Cached(Cache::Kind kind, int64_t max_bytes, bool encoded = true)
      : dataset(std::make_unique<PictureDataset>(10, encoded, &reads), kind, budget, DecodeOptions()) {
    *budget = max_bytes;
  }
  std::atomic<int64_t> reads = 0;
  std::shared_ptr<std::atomic<int64_t>> budget = std::make_shared<std::atomic<int64_t>>();
  CachedDataset dataset;
};

TEST(CachedDatasetTest, EncodedBytesAreReadOnceAndShared) {
  Cached cached(Cache::ENCODED, 1 << 20);
  for (int time = 0; time < 3; ++time) {
    for (int64_t i = 0; i < 9; ++i) {
      const absl::StatusOr<Sample> sample = cached.dataset.Read(i);
      ASSERT_TRUE(sample.ok()) << sample.status();
      EXPECT_EQ(sample->label, i % 3);
      EXPECT_EQ(std::get<EncodedImage>(sample->image).bytes, i == 0 ? "no image" : PngFile(Picture(i)));
    }
  }
  EXPECT_EQ(cached.reads, 9);
  const Sample a = *cached.dataset.Read(3), b = *cached.dataset.Read(3);
  EXPECT_EQ(std::get<EncodedImage>(a.image).bytes.data(), std::get<EncodedImage>(b.image).bytes.data());
}

TEST(CachedDatasetTest, PixelsAreReadAndDecodedOnce) {
  Cached cached(Cache::DECODED, 1 << 20);
  for (int time = 0; time < 3; ++time) {
    for (int64_t i = 1; i < 9; ++i) {
      const absl::StatusOr<Sample> sample = cached.dataset.Read(i);
      ASSERT_TRUE(sample.ok()) << sample.status();
      EXPECT_EQ(std::get<Image>(sample->image), Picture(i));
      EXPECT_EQ(sample->label, i % 3);
    }
  }
  EXPECT_EQ(cached.reads, 8);
}

TEST(CachedDatasetTest, ErrorsAreNotKept) {
  Cached cached(Cache::DECODED, 1 << 20);
  EXPECT_EQ(cached.dataset.Read(9).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(cached.dataset.Read(9).ok());
  for (int time = 0; time < 2; ++time) {
    EXPECT_THAT(std::string(cached.dataset.Read(0).status().message()), HasSubstr("the file begins with \"no image\""));
  }
}

TEST(CachedDatasetTest, OnlyPixelsAreKeptOfImagesThatAreNoFiles) {
  for (const Cache::Kind kind : {Cache::ENCODED, Cache::DECODED}) {
    Cached cached(kind, 1 << 20, /*encoded=*/false);
    for (int time = 0; time < 3; ++time) EXPECT_EQ(std::get<Image>(cached.dataset.Read(1)->image), Picture(1));
    EXPECT_EQ(cached.reads, kind == Cache::ENCODED ? 3 : 1);
  }
}

TEST(CachedDatasetTest, KeepsNoMoreThanTheBudget) {
  constexpr int64_t kImage = 3 * kSide * kSide + sizeof(Sample);
  Cached cached(Cache::DECODED, 4 * kImage + 10);
  for (int time = 0; time < 3; ++time) {
    for (int64_t i = 1; i < 9; ++i) EXPECT_EQ(std::get<Image>(cached.dataset.Read(i)->image), Picture(i));
  }
  EXPECT_EQ(cached.reads, 4 + 3 * 4);
  EXPECT_EQ(*cached.budget, 10);
}

TEST(CachedDatasetTest, CachesMayShareABudget) {
  constexpr int64_t kImage = 3 * kSide * kSide + sizeof(Sample);
  Cached train(Cache::DECODED, 3 * kImage);
  std::atomic<int64_t> reads = 0;
  const CachedDataset val(std::make_unique<PictureDataset>(10, true, &reads), Cache::DECODED, train.budget, {});
  for (int time = 0; time < 2; ++time) {
    for (const int64_t i : {1, 2}) EXPECT_TRUE(train.dataset.Read(i).ok());
    for (const int64_t i : {1, 2}) EXPECT_TRUE(val.Read(i).ok());
  }
  EXPECT_EQ(train.reads, 2);
  EXPECT_EQ(reads, 1 + 2);
}

TEST(CachedDatasetTest, ThreadsFillItTogether) {
  Cached cached(Cache::DECODED, 1 << 20);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int time = 0; time < 20; ++time) {
        for (int64_t i = 1; i < 9; ++i) wrong += std::get<Image>(cached.dataset.Read(i)->image) != Picture(i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  // What two threads read at once is kept, and charged, once.
  EXPECT_EQ(*cached.budget, (1 << 20) - 8 * (3 * kSide * kSide + static_cast<int64_t>(sizeof(Sample))));
}

TEST(CachedDatasetTest, IsOtherwiseTheDataSet) {
  const Cached cached(Cache::ENCODED, 1 << 20);
  EXPECT_EQ(cached.dataset.size(), 10);
  EXPECT_EQ(cached.dataset.SampleName(4), "picture[4]");
  EXPECT_THAT(cached.dataset.class_names(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(cached.dataset.Runs(), ElementsAre(9, 1));
  EXPECT_THAT(cached.dataset.PassedOver(), ElementsAre("README: no image"));
}

}  // namespace
}  // namespace graticule
