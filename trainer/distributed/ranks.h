// The processes of a training, which all hold the model and take their share of each batch.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_RANKS_H_
#define GRATICULE_TRAINER_DISTRIBUTED_RANKS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "trainer/distributed/environment.h"

namespace graticule {

// Two groups of connections, so that what is said of control never waits behind gradients: `control` is Gloo over the
// CPU, `gradients` NCCL on CUDA and else Gloo too. A world of one has neither, opens no socket, and every call is then
// trivially right.
//
// All ranks make the same calls in the same order. Each call waits at most for the timeout; where it fails, its status
// says which rank is the cause: Unavailable("rank 1 was lost: …") for one that ended, with its own words if it left
// any, DeadlineExceeded("rank 1 has not come to step 12 within 60 s …") for one that is late. After a failure no
// further call succeeds. One thread makes the calls; SetProgress and ReportFailure may come from any.
class Ranks {
 public:
  // Meets the others. Gradients are tensors of `device`. Unavailable where the store can't be reached in time, with its
  // address; DeadlineExceeded, naming the ranks that have not come.
  static absl::StatusOr<std::unique_ptr<Ranks>> Join(const LaunchEnvironment& environment, c10::Device device,
                                                     double timeout_seconds);
  static std::unique_ptr<Ranks> Alone();
  // Leaves: the others learn that this rank is no longer there because it went.
  ~Ranks();

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Of all ranks, element by element, in place and the same bits on each. A contiguous CPU tensor of double or int64.
  absl::Status Sum(at::Tensor values);
  // Each rank's values, as many on each, bit by bit.
  absl::StatusOr<std::vector<std::vector<double>>> AllGather(const std::vector<double>& values);
  // Rank 0's, into those of the other ranks, which have the same shapes and dtypes. On the device of Join or the CPU.
  absl::Status Broadcast(const std::vector<at::Tensor>& tensors);
  // Returns when all ranks have come.
  absl::Status Barrier();
  // Rank 0's text; what the others give is of no meaning.
  absl::StatusOr<std::string> BroadcastText(std::string text);
  // Each rank's, in their order.
  absl::StatusOr<std::vector<std::string>> GatherTexts(const std::string& text);

  // The maxima of all ranks' values, on their way.
  class Maxima {
   public:
    virtual ~Maxima() = default;
    // Waits for the rest of the way. Once.
    virtual absl::StatusOr<std::vector<int64_t>> Wait() = 0;
  };
  // Starts and returns at once: what a step asks, the next one reads, and no step waits for it. As many values on each
  // rank. Must not outlive the ranks.
  absl::StatusOr<std::unique_ptr<Maxima>> StartMax(const std::vector<int64_t>& values);

  // Something that a rank asks of all of them while each works by itself, such as "stop": Asked says it to each from
  // then on, at the cost of a question to the store. Where the store is gone nobody is asked anything.
  void Ask(const std::string& what);
  bool Asked(const std::string& what);

  // The first failure of any call, or that another rank was lost.
  absl::Status Failure();

  // What this rank is at, such as (12, "data"): the others name it where they wait in vain.
  void SetProgress(int64_t step, std::string_view phase);
  // This rank's last words, which the others then repeat. Returns when they are there to be read, on rank 0 when the
  // others have read them, or after some seconds. Does nothing where this rank only fails because of another one.
  void ReportFailure(std::string_view words);

  // For GradientReducer.
  struct State;
  State* state() { return state_.get(); }

 private:
  Ranks(int rank, int size, std::unique_ptr<State> state);

  const int rank_;
  const int size_;
  std::unique_ptr<State> state_;  // null in a world of one
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_RANKS_H_
