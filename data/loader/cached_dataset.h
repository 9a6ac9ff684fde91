// A data set whose images stay in memory from the first time they are read.
#ifndef GRATICULE_DATA_LOADER_CACHED_DATASET_H_
#define GRATICULE_DATA_LOADER_CACHED_DATASET_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/decode/decode.h"
#include "data/loader/cache.pb.h"

namespace graticule {

class CachedDataset : public Dataset {
 public:
  // Keeps what `kind` says (ENCODED or DECODED) of `dataset`, as long as it takes no more than the bytes that are left
  // in `budget`, which caches may share; what comes after is read every time. DECODED images are decoded whole, by
  // `decode`. Images that the data set itself has as pixels are kept by DECODED alone.
  CachedDataset(std::unique_ptr<Dataset> dataset, Cache::Kind kind, std::shared_ptr<std::atomic<int64_t>> budget,
                const DecodeOptions& decode);
  ~CachedDataset() override;

  int64_t size() const override { return dataset_->size(); }
  // A sample that is kept costs no more than a copy of its pixels, or, of encoded bytes, another owner of them. Of
  // DECODED also DecodeImage()'s errors.
  absl::StatusOr<Sample> Read(int64_t index) const override;
  std::string SampleName(int64_t index) const override { return dataset_->SampleName(index); }
  const std::vector<std::string>& class_names() const override { return dataset_->class_names(); }
  std::vector<int64_t> Runs() const override { return dataset_->Runs(); }
  std::vector<std::string> PassedOver() const override { return dataset_->PassedOver(); }

 private:
  void Keep(int64_t index, const Sample& sample) const;

  const std::unique_ptr<Dataset> dataset_;
  const Cache::Kind kind_;
  const std::shared_ptr<std::atomic<int64_t>> budget_;
  const DecodeOptions decode_;
  // By index; each is set once, by the thread that comes first.
  const std::unique_ptr<std::atomic<const Sample*>[]> kept_;
  mutable std::atomic<bool> full_ = false;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_LOADER_CACHED_DATASET_H_
