#include "data/datasets/web_dataset/web_dataset.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/datasets/files.h"
#include "data/datasets/web_dataset/shard_paths.h"
#include "google/protobuf/repeated_field.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// Loading reads from a few shards at a time.
constexpr size_t kMaxOpenFiles = 64;
constexpr size_t kMaxThreads = 16;

std::vector<std::string> FindShards(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                                    const std::string& field, FieldErrors& errors) {
  std::vector<std::string> paths;
  std::set<std::string> known;
  for (int i = 0; i < patterns.size(); ++i) {
    const std::string place = absl::StrCat(field, "[", i, "]");
    const absl::StatusOr<std::vector<std::string>> expanded = ExpandShardPattern(patterns[i]);
    errors.Add(place, expanded.status());
    if (!expanded.ok()) continue;
    for (const std::string& path : *expanded) {
      if (known.insert(path).second) {
        paths.push_back(path);
      } else {
        errors.Add(place, absl::StrCat(path, " is named twice"));
        break;
      }
    }
  }
  if (patterns.empty()) errors.Add(field, "is required: the tar files, such as \"shards/train-{000..146}.tar\"");
  return paths;
}

std::vector<std::string> FindClassNames(const WebDataset& config, FieldErrors& errors) {
  std::vector<std::string> names;
  if (config.num_classes() < 0) {
    errors.Add("num_classes", absl::StrCat("must be positive, found ", config.num_classes()));
  } else if (config.class_names().empty()) {
    if (config.num_classes() == 0) errors.Add("num_classes", "is required, or class_names");
    for (int label = 0; label < config.num_classes(); ++label) names.push_back(absl::StrCat(label));
  } else {
    // Of ImageNet's English names two come twice, so names need not differ.
    const absl::StatusOr<std::vector<Line>> lines = ReadLines(config.class_names());
    errors.Add("class_names", lines.status());
    if (!lines.ok()) return names;
    for (const Line& line : *lines) names.push_back(line.text);
    if (config.num_classes() > 0 && static_cast<int>(names.size()) != config.num_classes()) {
      errors.Add("num_classes", absl::StrCat("is ", config.num_classes(), ", but ", config.class_names(), " has ",
                                             names.size(), " names"));
    }
  }
  return names;
}

absl::StatusOr<Shard> IndexShard(const std::string& path, int64_t num_classes) {
  try {
    return Shard::Index(path, num_classes);
  } catch (...) {
    return CurrentExceptionToStatus(path);
  }
}

// On several threads: it is the disk that takes its time.
absl::StatusOr<std::vector<Shard>> IndexShards(const std::vector<std::string>& paths, int64_t num_classes) {
  std::vector<std::optional<absl::StatusOr<Shard>>> indexed(paths.size());
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads(std::min(kMaxThreads, paths.size()));
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      for (size_t i; (i = next++) < paths.size();) indexed[i] = IndexShard(paths[i], num_classes);
    });
  }
  for (std::thread& thread : threads) thread.join();

  std::vector<Shard> shards;
  std::vector<std::string> failures;
  int64_t good = 0;
  for (std::optional<absl::StatusOr<Shard>>& shard : indexed) {
    if (!shard->ok()) {
      failures.emplace_back(shard->status().message());
      continue;
    }
    good += (*shard)->size() - (*shard)->broken();
    shards.push_back(**std::move(shard));
  }
  if (!failures.empty()) return absl::InvalidArgumentError(FirstFew(failures));
  if (good > 0) return shards;
  for (const Shard& shard : shards) {
    if (shard.size() == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("no sample of the shards can be used; the first is ",
                                                   shard.SampleName(0), ": ", shard.Find(0).status().message()));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no samples (an image and a label, KEY.jpg and KEY.cls) in ", FirstFew(paths)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> TarShardsDataset::Create(const WebDataset& config,
                                                                  const DatasetContext& context) {
  FieldErrors errors;
  std::vector<std::string> class_names = FindClassNames(config, errors);
  const bool training = context.split == Split::kTrain;
  const std::string field = training ? "train" : "val";
  const std::vector<std::string> paths = FindShards(training ? config.train() : config.val(), field, errors);
  if (!errors.empty()) return errors.ToStatus();
  absl::StatusOr<std::vector<Shard>> shards = IndexShards(paths, static_cast<int64_t>(class_names.size()));
  errors.Add(field, shards.status());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Dataset>(new TarShardsDataset(*std::move(shards), std::move(class_names)));
}

TarShardsDataset::TarShardsDataset(std::vector<Shard> shards, std::vector<std::string> class_names)
    : shards_(std::move(shards)), first_{0}, class_names_(std::move(class_names)) {
  for (const Shard& shard : shards_) first_.push_back(first_.back() + shard.size());
}

std::pair<size_t, int64_t> TarShardsDataset::Locate(int64_t index) const {
  const size_t shard = std::upper_bound(first_.begin(), first_.end(), index) - first_.begin() - 1;
  return {shard, index - first_[shard]};
}

absl::StatusOr<Sample> TarShardsDataset::Read(int64_t index) const {
  const auto [shard, place] = Locate(index);
  ASSIGN_OR_RETURN(const Shard::Location location, shards_[shard].Find(place));
  ASSIGN_OR_RETURN(const std::shared_ptr<const ShardFile> file, File(shard));
  // What lies there now would not be what was found there.
  RETURN_IF_ERROR(shards_[shard].CheckUnchanged(*file));
  const std::shared_ptr<char[]> bytes(new char[location.size]);
  RETURN_IF_ERROR(file->Read(location.offset, location.size, bytes.get()));
  return Sample{EncodedImage({bytes.get(), static_cast<size_t>(location.size)}, bytes), location.label};
}

absl::StatusOr<std::shared_ptr<const ShardFile>> TarShardsDataset::File(size_t shard) const {
  std::unique_lock lock(mutex_);
  if (std::shared_ptr<const ShardFile> file = FindOpen(shard)) return file;
  lock.unlock();  // a slow disk must not keep readers of other shards waiting
  ASSIGN_OR_RETURN(std::shared_ptr<const ShardFile> opened, ShardFile::Open(shards_[shard].path()));
  lock.lock();
  // Another thread may have been faster.
  if (std::shared_ptr<const ShardFile> file = FindOpen(shard)) return file;
  if (open_.size() >= kMaxOpenFiles) {
    open_.erase(std::min_element(open_.begin(), open_.end(),
                                 [](const OpenFile& a, const OpenFile& b) { return a.last_used < b.last_used; }));
  }
  open_.push_back({shard, ++uses_, opened});
  return opened;
}

std::shared_ptr<const ShardFile> TarShardsDataset::FindOpen(size_t shard) const {
  for (OpenFile& open : open_) {
    if (open.shard != shard) continue;
    open.last_used = ++uses_;
    return open.file;
  }
  return nullptr;
}

std::string TarShardsDataset::SampleName(int64_t index) const {
  const auto [shard, place] = Locate(index);
  return shards_[shard].SampleName(place);
}

std::vector<int64_t> TarShardsDataset::Runs() const {
  std::vector<int64_t> runs;
  for (const Shard& shard : shards_) {
    if (shard.size() > 0) runs.push_back(shard.size());
  }
  return runs;
}

std::vector<std::string> TarShardsDataset::PassedOver() const {
  std::vector<std::string> all;
  for (const Shard& shard : shards_) all.insert(all.end(), shard.passed_over().begin(), shard.passed_over().end());
  return all;
}

namespace {
const Registration<Dataset, WebDataset> kRegistration(
    "Images and labels in tar shards, as webdataset writes them",
    R"(train: "shards/train-{00..01}.tar" val: "shards/val-*.tar" num_classes: 2)", &TarShardsDataset::Create);
}  // namespace

}  // namespace graticule
