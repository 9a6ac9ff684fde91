// Turns a dataset into batches, on threads, in an order that is a function of (seed, epoch) alone.
#ifndef GRATICULE_DATA_LOADER_LOADER_H_
#define GRATICULE_DATA_LOADER_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/batch.h"
#include "data/batch_transforms/batch_transform.h"
#include "data/datasets/dataset.h"
#include "data/decode/decode.h"
#include "data/transforms/transform.h"
#include "nn/size2d.h"

namespace graticule {

struct LoaderOptions {
  int64_t batch_size = 1;  // of this rank
  Size2d image_size;       // every image has it after the transforms; one of another size ends the epoch
  int threads = 2;         // decoding and augmenting
  int batches_ahead = 4;   // bound of the queue
  uint64_t seed = 0;
  bool shuffle = true;    // a seeded permutation a epoch, else the dataset's order
  bool drop_last = true;  // of an epoch; false: the last batch may be smaller
  int rank = 0;           // global batch g consists of positions g·(world·batch_size) …, dealt to the ranks in runs
  int world_size = 1;
  // Share that may be broken of the samples that an epoch shows (one in `repeats` of the data set), of this rank's
  // part, rounded up but never the whole data set. Each is named in the log, counted, and replaced by the next good
  // sample of the order (training) or left out (evaluation, where drop_last is false). One more ends the epoch with an
  // error.
  double max_broken = 0.001;

  DecodeOptions decode;
  bool exact = true;               // false: the first transform's window is decoded, not the whole image (DecodeRegion)
  bool stop_at_truncated = false;  // a file that ends too early ends the epoch, whatever max_broken says
  // Repeated augmentation: position p of the order is copy p % repeats of sample order(p / repeats); an epoch keeps its
  // length.
  int64_t repeats = 1;
  int64_t shuffle_buffer = 10000;         // of datasets that have Runs()
  bool pinned = false;                    // batches in page-locked memory, from which copies to a GPU are asynchronous
  std::function<void()> on_thread_start;  // first thing in each of its threads
};

// Seconds of work, summed over the threads.
struct LoaderTimes {
  double read = 0, decode = 0, resize = 0, augment = 0, collate = 0;
};

class Loader {
 public:
  // `dataset` and the transforms outlive the loader.
  Loader(const Dataset* dataset, std::vector<const Transform*> transforms,
         std::vector<const BatchTransform*> batch_transforms, LoaderOptions options);
  ~Loader();

  // Batches of an epoch (rounded down or up as drop_last says).
  int64_t batches_per_epoch() const;
  // Begins an epoch at any of its batches, without reading those before it. Ends the one under way.
  void Start(int64_t epoch, int64_t first_batch = 0);
  // The next batch, in order; nothing at the end of the epoch. An error once max_broken is passed (DataLoss), or at
  // once where an image has not image_size after the transforms, which is no fault of the sample (FailedPrecondition),
  // and where a batch has no memory or a batch transform throws (Internal).
  absl::StatusOr<std::optional<Batch>> Next();

  // Different broken samples in the batches that Next() has reached since the loader was made.
  int64_t broken() const;
  // Seconds that Next() has waited for threads since the loader was made.
  double wait_seconds() const;
  // What the threads have worked since the loader was made: the first transform is `resize` where it has a Window().
  LoaderTimes times() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_LOADER_LOADER_H_
