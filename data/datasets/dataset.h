// The interface of the datasets: numbered samples that any thread may read.
#ifndef GRATICULE_DATA_DATASETS_DATASET_H_
#define GRATICULE_DATA_DATASETS_DATASET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "data/image.h"

namespace graticule {

enum class Split { kTrain, kVal };

struct DatasetContext {
  Split split = Split::kTrain;
};

// No image file is larger; one that was, by damage or by mistake, would take all memory before its header is looked at.
inline constexpr int64_t kMaxImageFileBytes = int64_t{256} << 20;

// The bytes of an image file, whose format its content tells; `owner` keeps them alive, be it a string, a mapped file
// or a cache.
struct EncodedImage {
  explicit EncodedImage(std::string file) {
    auto string = std::make_shared<const std::string>(std::move(file));
    bytes = *string;
    owner = std::move(string);
  }
  EncodedImage(std::string_view bytes, std::shared_ptr<const void> owner) : bytes(bytes), owner(std::move(owner)) {}

  std::string_view bytes;
  std::shared_ptr<const void> owner;
};

struct Sample {
  std::variant<EncodedImage, Image> image;
  int64_t label = 0;  // 0 … K-1
};

class Dataset {
 public:
  static constexpr char kKind[] = "dataset";
  using Context = DatasetContext;
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;
  // Sample of this index, 0 … size()-1; called from many threads at once. The caller adds the sample's name to an
  // error: InvalidArgument if its label is wrong, OutOfRange if it ends too early; any other says why it can't be read.
  virtual absl::StatusOr<Sample> Read(int64_t index) const = 0;
  // What messages call the sample: a path, or "digits[12]".
  virtual std::string SampleName(int64_t index) const = 0;
  // K names, in label order.
  virtual const std::vector<std::string>& class_names() const = 0;

  // Sizes of the runs of samples that lie together on disk, in order of the samples: of a data set of shards, theirs.
  // Training then reads run after run. Empty where every order of the samples costs the same.
  virtual std::vector<int64_t> Runs() const { return {}; }
  // What stands among the data but is no sample: a path and why it was passed over, for `graticule check`.
  virtual std::vector<std::string> PassedOver() const { return {}; }
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_DATASET_H_
