// Gradients averaged over the ranks while the backward pass is still going on, by LibTorch's own engine
// (c10d::Reducer).
#ifndef GRATICULE_TRAINER_DISTRIBUTED_GRADIENT_REDUCER_H_
#define GRATICULE_TRAINER_DISTRIBUTED_GRADIENT_REDUCER_H_

#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/distributed/ranks.h"

namespace graticule {

struct RankTensor {
  std::string name;
  at::Tensor tensor;
};

// Makes the tensors of all ranks (parameters and buffers, on the device of Join) rank 0's. InvalidArgument, naming the
// first one that differs and the ranks, where their names, shapes or dtypes are not the same.
absl::Status VerifyAndBroadcast(const std::vector<RankTensor>& tensors, Ranks& ranks);

// Parameters are gathered in buckets, and a bucket is reduced as soon as its last gradient is there. Gradients are then
// views of the buckets; a step may set them to zero or make them undefined afterwards.
//
// Which parameters get gradients, and in how many parts (more than one where activations are checkpointed and a module
// runs twice), is learnt in the first step that is synchronised, as DDP does of a static graph. Later steps may differ:
// a parameter without a gradient on some ranks counts as zero there, and one without a gradient on any rank keeps an
// undefined one, as in a single process. Only more parts than in any earlier step are an error.
class GradientReducer {
 public:
  // `parameters`: the trained ones, the same on all ranks and at least one. `ranks` outlives this. `bucket_mebibytes`:
  // as DDP's bucket_cap_mb, the first bucket has 1 MiB at most.
  static absl::StatusOr<std::unique_ptr<GradientReducer>> Create(std::vector<RankTensor> parameters,
                                                                 double bucket_mebibytes, Ranks* ranks);
  ~GradientReducer();

  // loss.backward(). With `synchronise` the gradients, including those added up by earlier calls without it, are the
  // mean over the ranks once it returns; without, nothing is sent. What the backward pass throws is an Internal status,
  // a lost or late rank as in Ranks.
  absl::Status Backward(const at::Tensor& loss, bool synchronise);

 private:
  struct State;
  explicit GradientReducer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_GRADIENT_REDUCER_H_
