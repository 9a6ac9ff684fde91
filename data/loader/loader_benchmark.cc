// Decoding, transforming and loading, in images a second (items_per_second).
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "data/decode/decode.h"
#include "data/decode/test_files.h"
#include "data/loader/loader.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/text_format.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

// Of a config such as "RandomCrop] { padding: 4 }".
std::unique_ptr<Transform> MakeTransform(const std::string& config, Size2d image_size) {
  google::protobuf::Any any;
  CHECK(google::protobuf::TextFormat::ParseFromString("[type.googleapis.com/graticule." + config, &any)) << config;
  absl::StatusOr<std::unique_ptr<Transform>> transform =
      Registry<Transform>::Create(any, {.image_size = image_size, .statistics = {}});
  CHECK(transform.ok()) << transform.status();
  return std::move(*transform);
}

// Of ImageNet's commonest size and of about its bytes a file.
std::string Photo(int height = 375, int width = 500) {
  Image image{height, width, {}};
  Draws draws({1});
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double wave = 128 + 60 * std::sin(x / 17.0 + y / 29.0) + 40 * std::sin(x * y / 2000.0);
      for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(wave + draws.Uniform(-12, 12)));
    }
  }
  return JpegFile(image, 90);
}

void BM_DecodeJpeg(benchmark::State& state) {
  const std::string photo = Photo();
  for (auto _ : state) benchmark::DoNotOptimize(DecodeImage(photo)->pixels.data());
  state.SetItemsProcessed(state.iterations());
  state.counters["bytes"] = static_cast<double>(photo.size());
}
BENCHMARK(BM_DecodeJpeg)->Unit(benchmark::kMicrosecond);

void BM_Transform(benchmark::State& state, const char* config) {
  const Image photo = *DecodeImage(Photo());
  const std::unique_ptr<Transform> transform = MakeTransform(config, {224, 224});
  Draws draws({2});
  for (auto _ : state) {
    Image image = photo;
    transform->Apply(image, draws);
    benchmark::DoNotOptimize(image.pixels.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(BM_Transform, RandomResizedCrop, "RandomResizedCrop] {}")->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Transform, RandomHorizontalFlip, "RandomHorizontalFlip] {}")->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Transform, Resize, "Resize] {}")->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Transform, CenterCrop, "CenterCrop] {}")->Unit(benchmark::kMicrosecond);

class PhotoDataset : public Dataset {
 public:
  int64_t size() const override { return 1024; }
  absl::StatusOr<Sample> Read(int64_t index) const override { return Sample{EncodedImage(photo_), 0}; }
  std::string SampleName(int64_t index) const override { return "photo"; }
  const std::vector<std::string>& class_names() const override { return class_names_; }

 private:
  std::string photo_ = Photo();
  std::vector<std::string> class_names_ = {"photo"};
};

// As large and as many as CIFAR's, from memory.
class SmallDataset : public Dataset {
 public:
  SmallDataset() : pixels_(kImage * size()) {
    Draws draws({3});
    for (uint8_t& value : pixels_) value = static_cast<uint8_t>(draws());
  }
  int64_t size() const override { return 50000; }
  absl::StatusOr<Sample> Read(int64_t index) const override {
    const uint8_t* const first = pixels_.data() + index * kImage;
    return Sample{Image{32, 32, Pixels(first, first + kImage)}, index % 10};
  }
  std::string SampleName(int64_t index) const override { return "small"; }
  const std::vector<std::string>& class_names() const override { return class_names_; }

 private:
  static constexpr int64_t kImage = 32 * 32 * Image::kChannels;
  std::vector<uint8_t> pixels_;
  std::vector<std::string> class_names_ = std::vector<std::string>(10, "small");
};

// Epochs of a dataset with the transforms of its kind of training; the argument is the number of threads.
void RunLoader(benchmark::State& state, const Dataset& dataset, std::vector<std::string> configs, Size2d image_size) {
  std::vector<std::unique_ptr<Transform>> owned;
  std::vector<const Transform*> transforms;
  for (const std::string& config : configs) {
    owned.push_back(MakeTransform(config, image_size));
    transforms.push_back(owned.back().get());
  }
  LoaderOptions options;
  options.batch_size = 128;
  options.exact = false;
  options.image_size = image_size;
  options.threads = static_cast<int>(state.range(0));
  Loader loader(&dataset, transforms, {}, options);
  int64_t images = 0, epoch = 0;
  for (auto _ : state) {
    absl::StatusOr<std::optional<Batch>> batch = loader.Next();
    CHECK(batch.ok()) << batch.status();
    while (!batch->has_value()) {
      loader.Start(epoch++);
      batch = loader.Next();
    }
    images += (*batch)->size();
  }
  state.SetItemsProcessed(images);
  // Microseconds of work an image.
  const LoaderTimes times = loader.times();
  const auto report = [&](const char* name, double seconds) {
    state.counters[name] = 1e6 * seconds / static_cast<double>(images);
  };
  report("read", times.read);
  report("decode", times.decode);
  report("resize", times.resize);
  report("augment", times.augment);
  report("collate", times.collate);
}

void BM_LoadPhotos(benchmark::State& state) {
  RunLoader(state, PhotoDataset(), {"RandomResizedCrop] {}", "RandomHorizontalFlip] {}"}, {224, 224});
}
BENCHMARK(BM_LoadPhotos)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

void BM_LoadSmall(benchmark::State& state) {
  RunLoader(state, SmallDataset(), {"RandomCrop] { padding: 4 }", "RandomHorizontalFlip] {}"}, {32, 32});
}
BENCHMARK(BM_LoadSmall)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace graticule
