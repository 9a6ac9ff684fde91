// The handwritten digits of UCI: real images that need no download, for a first run and for tests.
#ifndef GRATICULE_DATA_DATASETS_DIGITS_DIGITS_H_
#define GRATICULE_DATA_DATASETS_DIGITS_DIGITS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"
#include "data/datasets/digits/digits.pb.h"

namespace graticule {

class DigitsDataset : public Dataset {
 public:
  static absl::StatusOr<std::unique_ptr<Dataset>> Create(const Digits& config, const DatasetContext& context);

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  // 8×8; grey levels 0 … 16 become 0 … 255.
  absl::StatusOr<Sample> Read(int64_t index) const override;
  std::string SampleName(int64_t index) const override;
  const std::vector<std::string>& class_names() const override { return class_names_; }

 private:
  struct Row {
    std::array<uint8_t, 64> grey;  // 0 … 255
    int64_t label;
    int64_t line;  // in the file, from 1
  };
  // All rows of a file; an error names the line.
  static absl::StatusOr<std::vector<Row>> Parse(const std::string& path);

  DigitsDataset(std::vector<Row> rows, std::vector<std::string> class_names)
      : rows_(std::move(rows)), class_names_(std::move(class_names)) {}

  std::vector<Row> rows_;
  std::vector<std::string> class_names_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_DIGITS_DIGITS_H_
