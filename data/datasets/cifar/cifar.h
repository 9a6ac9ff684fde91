// CIFAR-10 and CIFAR-100 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html) in memory.
#ifndef GRATICULE_DATA_DATASETS_CIFAR_CIFAR_H_
#define GRATICULE_DATA_DATASETS_CIFAR_CIFAR_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/datasets/cifar/cifar.pb.h"
#include "data/datasets/dataset.h"
#include "data/image.h"

namespace graticule {

// The images of the binary version: records of one label (CIFAR-10) or two (CIFAR-100: superclass, class) and 3·32·32
// bytes, red, green, blue, each row by row. They are reordered once, when they are opened, and kept: 3 kB an image.
class CifarDataset : public Dataset {
 public:
  static absl::StatusOr<std::unique_ptr<Dataset>> Create(const Cifar& config, const DatasetContext& context);

  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  absl::StatusOr<Sample> Read(int64_t index) const override;
  // "…/data_batch_2.bin[9999]": the record of a file, from 0.
  std::string SampleName(int64_t index) const override;
  const std::vector<std::string>& class_names() const override { return class_names_; }
  // Files that have not as many images as CIFAR's.
  std::vector<std::string> PassedOver() const override { return passed_over_; }

 private:
  struct Format;
  struct File {
    std::string path;
    int64_t first;  // index of its first image
    int64_t size;   // images
  };

  CifarDataset() = default;
  static const std::vector<Format>& Formats();
  // The data set of so many classes (0: any) in a folder or in its archive's folder there.
  static absl::StatusOr<std::unique_ptr<Dataset>> Find(const std::filesystem::path& path, int classes, Split split);
  static absl::StatusOr<std::unique_ptr<Dataset>> Open(const std::filesystem::path& folder, const Format& format,
                                                       Split split);
  absl::Status Load(const std::string& path, const Format& format);
  // An image of three planes.
  void Append(const char* planes);

  std::vector<std::string> class_names_;
  std::vector<std::string> passed_over_;
  std::vector<File> files_;
  Pixels pixels_;  // [N,32,32,3]
  std::vector<uint8_t> labels_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_CIFAR_CIFAR_H_
