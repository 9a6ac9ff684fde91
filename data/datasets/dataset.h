// The interface of the datasets: numbered samples that any thread may read.
#ifndef GRATICULE_DATA_DATASETS_DATASET_H_
#define GRATICULE_DATA_DATASETS_DATASET_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "data/image.h"

namespace graticule {

enum class Split { kTrain, kVal };

struct DatasetContext {
  Split split = Split::kTrain;
};

struct Sample {
  // Encoded bytes of an image file (the loader decodes them by content), or an image already.
  std::variant<std::string, Image> image;
  int64_t label = 0;  // 0 … K-1
  std::string name;   // for messages: a path, or "digits[12]"
};

class Dataset {
 public:
  static constexpr char kKind[] = "dataset";
  using Context = DatasetContext;
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;
  // Sample of this index, 0 … size()-1; called from many threads at once. An error names the sample.
  virtual absl::StatusOr<Sample> Read(int64_t index) const = 0;
  // K names, in label order.
  virtual const std::vector<std::string>& class_names() const = 0;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_DATASET_H_
