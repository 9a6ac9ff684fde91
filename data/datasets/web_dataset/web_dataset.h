// Samples in tar files, as the webdataset library writes them (https://github.com/webdataset/webdataset).
#ifndef GRATICULE_DATA_DATASETS_WEB_DATASET_WEB_DATASET_H_
#define GRATICULE_DATA_DATASETS_WEB_DATASET_WEB_DATASET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/web_dataset/shard.h"
#include "data/datasets/web_dataset/web_dataset.pb.h"

namespace graticule {

// Samples come shard by shard, in the order of the config, and in a shard in the order of their first members. Where
// each lies is found once, when the data set is opened; reading one is a single read then. Some files stay open.
class TarShardsDataset : public Dataset {
 public:
  static absl::StatusOr<std::unique_ptr<Dataset>> Create(const WebDataset& config, const DatasetContext& context);

  int64_t size() const override { return first_.back(); }
  absl::StatusOr<Sample> Read(int64_t index) const override;
  // "SHARD:KEY"
  std::string SampleName(int64_t index) const override;
  const std::vector<std::string>& class_names() const override { return class_names_; }
  std::vector<int64_t> Runs() const override;
  // Members without an extension and those that are no part of a sample, 100 of a shard.
  std::vector<std::string> PassedOver() const override;

 private:
  struct OpenFile {
    size_t shard;
    uint64_t last_used;
    std::shared_ptr<const ShardFile> file;
  };

  TarShardsDataset(std::vector<Shard> shards, std::vector<std::string> class_names);
  // The shard of a sample, and the sample's place in it.
  std::pair<size_t, int64_t> Locate(int64_t index) const;
  absl::StatusOr<std::shared_ptr<const ShardFile>> File(size_t shard) const;
  // Null if it is not open; needs the lock.
  std::shared_ptr<const ShardFile> FindOpen(size_t shard) const;

  const std::vector<Shard> shards_;
  std::vector<int64_t> first_;  // index of each shard's first sample, and the size
  const std::vector<std::string> class_names_;

  mutable std::mutex mutex_;
  mutable std::vector<OpenFile> open_;
  mutable uint64_t uses_ = 0;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_WEB_DATASET_WEB_DATASET_H_
