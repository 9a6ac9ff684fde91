// Writes checkpoints while the training goes on.
#ifndef GRATICULE_TRAINER_CHECKPOINT_WRITER_H_
#define GRATICULE_TRAINER_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "trainer/checkpoint/checkpoint.h"

namespace graticule {

// One thread, of low priority, that does what SaveCheckpoint and PruneCheckpoints do on a copy of the tensors. All
// functions are called from one thread.
class CheckpointWriter {
 public:
  // What became of a save.
  struct Result {
    int64_t step = 0;
    // Of SaveCheckpoint: after an error older checkpoints are whole, and the next Save tries anew.
    absl::Status saved;
    // Of PruneCheckpoints, where `saved` is OK: after an error there are more checkpoints than there need be, or the
    // link `best` is not where it should be.
    absl::Status pruned;
    double stall_seconds = 0;  // that Save took: for the save before to end, and to copy
    double write_seconds = 0;  // from there until the checkpoint was whole on disk

    // "saved step 120 in 0.4 s", or the errors.
    std::string ToString() const;
  };

  explicit CheckpointWriter(std::string run_directory);
  // Waits for the write in flight.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Copies all tensors and returns; they may change from then on. Those of a CUDA device are copied in the order of its
  // current stream, into pinned memory. The copy's memory is kept for the next save. Waits for the save before, if need
  // be. Its own error is that there is no memory for the copy; those of writing are Finished's and Wait's.
  absl::Status Save(const Checkpoint& checkpoint, const Retention& retention);

  // Waits for the write in flight. The status is `saved` of the last save whose tensors could be copied, and OK before
  // the first, however often it is asked for; Finished has the result all the same.
  absl::Status Wait();

  // The oldest result that has not been handed out.
  std::optional<Result> Finished();

  // Time that Save has taken, over all saves.
  double stall_seconds() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_CHECKPOINT_WRITER_H_
