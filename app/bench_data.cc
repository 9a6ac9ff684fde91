#include "app/bench_data.h"

#include <iostream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "app/feed.h"
#include "app/stopwatch.h"
#include "data/loader/loader.h"
#include "nlohmann/json.hpp"
#include "plugin/status.h"
#include "trainer/device.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

using Json = nlohmann::ordered_json;

// Shares of the threads' work between two looks at it.
Json Shares(const LoaderTimes& from, const LoaderTimes& to) {
  const std::pair<const char*, double> parts[] = {{"read", to.read - from.read},
                                                  {"decode", to.decode - from.decode},
                                                  {"resize", to.resize - from.resize},
                                                  {"augment", to.augment - from.augment},
                                                  {"collate", to.collate - from.collate}};
  double total = 0;
  for (const auto& [name, seconds] : parts) total += seconds;
  Json shares;
  for (const auto& [name, seconds] : parts) shares[name] = total > 0 ? seconds / total : 0;
  return shares;
}

absl::StatusOr<Json> Measure(Feed& feed, int threads, int steps) {
  // What the threads have worked ahead while nobody looked is not counted.
  RETURN_IF_ERROR(feed.Skip(LoaderOptions().batches_ahead + 1));
  const LoaderTimes before = feed.times();
  Stopwatch watch(c10::kCPU);
  int64_t images = 0;
  for (int step = 0; step < steps; ++step) {
    ASSIGN_OR_RETURN(const Batch batch, feed.Next());
    images += batch.size();
  }
  const double rate = static_cast<double>(images) / watch.Lap();
  return Json{{"threads", threads},
              {"images_per_second", rate},
              {"images_per_second_per_core", rate / threads},
              {"shares", Shares(before, feed.times())}};
}

// Seconds an image to make the model's input of a batch, on the device and with the kernels' threads of the spec.
absl::StatusOr<double> MeasureNormalizing(const Experiment& experiment, const DataParts& data) {
  constexpr int kTimes = 20;
  ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(experiment.trainer()));
  const Normalizer normalize(experiment.data(), device);
  // The loader's threads would work beside what is measured, so it is gone by then.
  ASSIGN_OR_RETURN(const Batch batch, Feed(experiment, data).Next());
  normalize(batch);
  Stopwatch watch(device);
  for (int i = 0; i < kTimes; ++i) normalize(batch);
  return watch.Lap() / static_cast<double>(kTimes * batch.size());
}

std::string Table(const Json& report) {
  std::string text = absl::StrFormat("%s: the training loader, batch %d\n\n", report["spec"].get<std::string>(),
                                     report["batch_size"].get<int>());
  absl::StrAppend(&text, "threads      img/s   a core     read   decode   resize  augment  collate\n");
  for (const Json& row : report["loader"]) {
    absl::StrAppendFormat(&text, "%7d %10.1f %8.1f", row["threads"].get<int>(), row["images_per_second"].get<double>(),
                          row["images_per_second_per_core"].get<double>());
    for (const auto& [name, share] : row["shares"].items()) {
      absl::StrAppendFormat(&text, " %6.1f %%", 100 * share.get<double>());
    }
    text += "\n";
  }
  absl::StrAppendFormat(&text, "\nNormalising on the device takes %.1f µs an image besides.\n",
                        1e6 * report["normalize_seconds_per_image"].get<double>());
  return text;
}

}  // namespace

absl::Status BenchData(const Experiment& experiment, const BenchDataOptions& options) {
  SetThreads(experiment.trainer());
  ASSIGN_OR_RETURN(const DataParts data, BuildData(experiment));
  const int batch_size = experiment.trainer().batch_size();
  if (data.train->size() < batch_size) {
    return absl::FailedPreconditionError(absl::StrCat("the data set has ", data.train->size(),
                                                      " training images, fewer than a batch of ", batch_size,
                                                      "; choose a smaller --batch-size"));
  }
  std::vector<int> counts = {options.threads};
  if (options.threads == 0) {
    counts.clear();
    const int most = LoaderThreads(experiment.data());
    for (int threads = 1; threads < most; threads *= 2) counts.push_back(threads);
    counts.push_back(most);
  }
  for (int round = 0; round < options.rounds; ++round) {
    std::string line;
    if (options.interactive && !std::getline(std::cin, line)) break;
    Json report = {{"spec", options.spec}, {"batch_size", batch_size}, {"loader", Json::array()}};
    for (const int threads : counts) {
      Experiment with_threads = experiment;
      with_threads.mutable_data()->set_threads(threads);
      Feed feed(with_threads, data);
      ASSIGN_OR_RETURN(Json row, Measure(feed, threads, options.steps));
      report["loader"].push_back(std::move(row));
    }
    ASSIGN_OR_RETURN(report["normalize_seconds_per_image"], MeasureNormalizing(experiment, data));
    std::cout << (options.json ? report.dump() + "\n" : Table(report)) << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace graticule
