// Procedural images with a class signal.
#ifndef GRATICULE_DATA_DATASETS_SYNTHETIC_SYNTHETIC_H_
#define GRATICULE_DATA_DATASETS_SYNTHETIC_SYNTHETIC_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/synthetic/synthetic.pb.h"

namespace graticule {

// Sample i has class i mod K. A pixel is 128 + 64·cos(k·x + φ) + noise of ±48 in each channel: the direction of k and,
// beyond eight classes, its length tell the class; the phase φ, the noise and a jitter of k are the sample's own.
class SyntheticDataset : public Dataset {
 public:
  static absl::StatusOr<std::unique_ptr<Dataset>> Create(const Synthetic& config, const DatasetContext& context);

  int64_t size() const override { return size_; }
  absl::StatusOr<Sample> Read(int64_t index) const override;
  std::string SampleName(int64_t index) const override;
  const std::vector<std::string>& class_names() const override { return class_names_; }

 private:
  SyntheticDataset() = default;

  int64_t size_, height_, width_;
  uint64_t seed_;
  Split split_;
  std::vector<std::string> class_names_;
  // The samples take their noise from random places of this pool, for speed.
  std::vector<int8_t> noise_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_SYNTHETIC_SYNTHETIC_H_
