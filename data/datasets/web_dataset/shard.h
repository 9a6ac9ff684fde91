// Where the samples of a tar file lie.
#ifndef GRATICULE_DATA_DATASETS_WEB_DATASET_SHARD_H_
#define GRATICULE_DATA_DATASETS_WEB_DATASET_SHARD_H_

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace graticule {

// A file that is open for reading.
class ShardFile {
 public:
  static absl::StatusOr<std::shared_ptr<const ShardFile>> Open(const std::string& path);
  explicit ShardFile(int descriptor) : descriptor_(descriptor) {}
  ~ShardFile();
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  int descriptor() const { return descriptor_; }
  // Its size and time; an error where it is no plain file.
  absl::StatusOr<struct stat> Stat() const;
  // Fills `bytes` from `offset` on; OutOfRange where the file ends before.
  absl::Status Read(int64_t offset, int64_t size, char* bytes) const;

 private:
  const int descriptor_;
};

// The index of a tar file: 16 bytes and the key for each sample.
class Shard {
 public:
  struct Location {
    int64_t offset;  // of the image in the file
    int64_t size;
    int64_t label;
  };

  // Reads the headers of the members, and the labels. Labels are 0 … num_classes-1. An error where the file holds
  // nothing that can be used: it is missing, empty, compressed or no tar file. Damage further in ends the shard there,
  // with one broken sample at least.
  static absl::StatusOr<Shard> Index(const std::string& path, int64_t num_classes);

  const std::string& path() const { return path_; }
  int64_t size() const { return static_cast<int64_t>(samples_.size()); }
  int64_t broken() const { return static_cast<int64_t>(broken_.size()); }
  // Where a sample lies; for a broken one the error of Dataset::Read.
  absl::StatusOr<Location> Find(int64_t index) const;
  // "PATH:KEY".
  std::string SampleName(int64_t index) const;
  const std::vector<std::string>& passed_over() const { return passed_over_; }
  // An error if the file is another than when it was indexed.
  absl::Status CheckUnchanged(const ShardFile& file) const;

 private:
  struct Sample {
    uint32_t block = 0;  // of 512 bytes, at which the image begins
    uint32_t size = 0;
    int32_t label = 0;
    uint32_t key = 0;  // where it begins in keys_; it ends where the next one begins
  };

  Shard() = default;
  // Appends a sample; it is broken where there is a problem.
  void Add(std::string_view key, Sample sample, const absl::Status& problem);

  std::string path_;
  int64_t bytes_ = 0;
  struct timespec modified_ = {};
  std::vector<Sample> samples_;
  std::string keys_;
  std::map<int64_t, absl::Status> broken_;  // the reasons, by sample
  std::vector<std::string> passed_over_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_WEB_DATASET_SHARD_H_
