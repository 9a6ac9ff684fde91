#include "data/check/check.h"

#include <openssl/evp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// Neighbours in a shard are read by one thread.
constexpr int64_t kChunk = 32;

// Of `header`, where there is one, and `bytes`.
Fingerprint FingerprintOf(std::string_view header, std::string_view bytes) {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CHECK_EQ(EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr), 1);
  CHECK_EQ(EVP_DigestUpdate(context.get(), header.data(), header.size()), 1);
  CHECK_EQ(EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()), 1);
  CHECK_EQ(EVP_DigestFinal_ex(context.get(), digest, &size), 1);
  Fingerprint fingerprint;
  CHECK_GE(size, sizeof(fingerprint));
  std::memcpy(fingerprint.data(), digest, sizeof(fingerprint));
  return fingerprint;
}

Fingerprint FingerprintOf(const Image& image) {
  const int64_t size[2] = {image.height, image.width};
  return FingerprintOf({reinterpret_cast<const char*>(size), sizeof(size)},
                       {reinterpret_cast<const char*>(image.pixels.data()), image.pixels.size()});
}

Problem ProblemOfDecoding(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
      return Problem::kNotAnImage;
    case absl::StatusCode::kOutOfRange:
      return Problem::kTruncated;
    default:
      return Problem::kBroken;
  }
}

Problem ProblemOfReading(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return Problem::kWrongLabel;
    case absl::StatusCode::kOutOfRange:
      return Problem::kTruncated;
    default:
      return Problem::kUnreadable;
  }
}

struct Found {
  Problem problem;
  std::string reason;
};

Found FoundInDecoding(const absl::Status& status) { return {ProblemOfDecoding(status), std::string(status.message())}; }

std::optional<Found> CheckFile(std::string_view bytes, const DecodeOptions& options) {
  if (bytes.empty()) return Found{Problem::kEmpty, "the file is empty"};
  DecodeOptions whole = options;
  whole.keep_truncated = false;
  const absl::Status status = DecodeImage(bytes, whole).status();
  if (status.ok()) return std::nullopt;
  Found found = FoundInDecoding(status);
  if (found.problem == Problem::kTruncated && options.keep_truncated) {
    if (const absl::Status kept = DecodeImage(bytes, options).status(); !kept.ok()) return FoundInDecoding(kept);
    found.problem = Problem::kKeptTruncated;
  }
  return found;
}

std::optional<Found> CheckImage(const Image& image) {
  if (image.size().area() == 0) {
    return Found{Problem::kEmpty, absl::StrCat("the image has ", image.height, "×", image.width, " pixels")};
  }
  return std::nullopt;
}

// A pass over a data set, by threads that take runs of samples.
class Pass {
 public:
  Pass(const Dataset& dataset, const DecodeOptions& options) : dataset_(dataset), options_(options) {
    report_.fingerprints.resize(dataset.size());
    report_.labels.resize(dataset.size(), -1);
  }

  SamplesReport Run(int thread_count, const std::function<void(int64_t)>& progress) {
    std::vector<std::thread> threads;
    for (int i = 0; i < thread_count; ++i) threads.emplace_back([this] { Work(); });
    {
      constexpr auto kInterval = std::chrono::milliseconds(200);
      std::unique_lock lock(mutex_);
      while (!finished_.wait_for(lock, kInterval, [this] { return done_ == dataset_.size(); })) {
        const int64_t done = done_;
        lock.unlock();
        progress(done);
        lock.lock();
      }
    }
    for (std::thread& thread : threads) thread.join();
    progress(dataset_.size());
    return std::move(report_);
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (begun_ < dataset_.size()) {
      const int64_t begin = begun_;
      const int64_t end = std::min(begin + kChunk, dataset_.size());
      begun_ = end;
      lock.unlock();
      std::vector<SampleProblem> problems;
      for (int64_t i = begin; i < end; ++i) {
        if (std::optional<Found> found = Check(i)) problems.push_back({i, found->problem, std::move(found->reason)});
      }
      lock.lock();
      done_ += end - begin;
      std::move(problems.begin(), problems.end(), std::back_inserter(report_.problems));
    }
    finished_.notify_one();
  }

  // What a data set or a decoder throws is a problem of the sample too.
  std::optional<Found> Check(int64_t index) {
    try {
      return CheckOrThrow(index);
    } catch (...) {
      return Found{Problem::kUnreadable, std::string(CurrentExceptionToStatus("reading it").message())};
    }
  }

  std::optional<Found> CheckOrThrow(int64_t index) {
    const absl::StatusOr<Sample> sample = dataset_.Read(index);
    if (!sample.ok()) return Found{ProblemOfReading(sample.status()), std::string(sample.status().message())};
    const EncodedImage* const file = std::get_if<EncodedImage>(&sample->image);
    std::optional<Found> found =
        file != nullptr ? CheckFile(file->bytes, options_) : CheckImage(std::get<Image>(sample->image));
    if (found && IsError(found->problem)) return found;
    if (const int64_t classes = dataset_.class_names().size(); sample->label < 0 || sample->label >= classes) {
      return Found{Problem::kWrongLabel, absl::StrCat("the label is ", sample->label, ", not 0 to ", classes - 1)};
    }
    report_.fingerprints[index] =
        file != nullptr ? FingerprintOf({}, file->bytes) : FingerprintOf(std::get<Image>(sample->image));
    report_.labels[index] = sample->label;
    return found;
  }

  const Dataset& dataset_;
  const DecodeOptions& options_;
  SamplesReport report_;  // a sample's own entries are written by the thread that has it, the problems under the lock

  std::mutex mutex_;
  std::condition_variable finished_;
  int64_t begun_ = 0;  // samples that a thread has taken
  int64_t done_ = 0;
};

// The samples that can be trained on, equal ones side by side in order.
std::vector<int64_t> ByFingerprint(const SamplesReport& report) {
  std::vector<int64_t> samples;
  samples.reserve(report.labels.size());
  for (size_t i = 0; i < report.labels.size(); ++i) {
    if (report.labels[i] >= 0) samples.push_back(static_cast<int64_t>(i));
  }
  std::sort(samples.begin(), samples.end(), [&](int64_t a, int64_t b) {
    return std::pair(report.fingerprints[a], a) < std::pair(report.fingerprints[b], b);
  });
  return samples;
}

void SortBySample(std::vector<SampleProblem>& problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const SampleProblem& a, const SampleProblem& b) { return a.sample < b.sample; });
}

void AddTwins(SamplesReport& report) {
  int64_t first = -1;  // of those that are equal
  for (const int64_t sample : ByFingerprint(report)) {
    if (first < 0 || report.fingerprints[first] != report.fingerprints[sample]) {
      first = sample;
      continue;
    }
    const bool same_class = report.labels[first] == report.labels[sample];
    report.problems.push_back({sample, same_class ? Problem::kDuplicate : Problem::kTwoClasses, "", first});
  }
}

}  // namespace

bool IsError(Problem problem) { return problem < Problem::kKeptTruncated; }

std::string ProblemName(Problem problem) {
  switch (problem) {
    case Problem::kUnreadable:
      return "unreadable";
    case Problem::kEmpty:
      return "empty";
    case Problem::kNotAnImage:
      return "not_an_image";
    case Problem::kTruncated:
      return "truncated";
    case Problem::kBroken:
      return "broken";
    case Problem::kWrongLabel:
      return "wrong_label";
    case Problem::kTwoClasses:
      return "two_classes";
    case Problem::kKeptTruncated:
      return "kept_truncated";
    case Problem::kDuplicate:
      return "duplicate";
    case Problem::kInBothSplits:
      return "in_both_splits";
  }
}

SamplesReport CheckSamples(const Dataset& dataset, const DecodeOptions& options, int threads,
                           const std::function<void(int64_t)>& progress) {
  CHECK_GT(threads, 0);
  SamplesReport report = Pass(dataset, options).Run(threads, progress);
  AddTwins(report);
  SortBySample(report.problems);
  return report;
}

std::vector<SampleProblem> CompareSplits(const SamplesReport& train, const SamplesReport& val) {
  const std::vector<int64_t> sorted = ByFingerprint(train);
  std::vector<SampleProblem> problems;
  for (size_t i = 0; i < val.labels.size(); ++i) {
    if (val.labels[i] < 0) continue;
    const auto twin = std::lower_bound(
        sorted.begin(), sorted.end(), val.fingerprints[i],
        [&](int64_t sample, const Fingerprint& wanted) { return train.fingerprints[sample] < wanted; });
    if (twin == sorted.end() || train.fingerprints[*twin] != val.fingerprints[i]) continue;
    const bool same_class = train.labels[*twin] == val.labels[i];
    problems.push_back(
        {static_cast<int64_t>(i), same_class ? Problem::kInBothSplits : Problem::kTwoClasses, "", *twin});
  }
  return problems;
}

}  // namespace graticule
