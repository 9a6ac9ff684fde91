// What is behind Ranks, for the files of this folder alone: c10d's headers are heavy.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_RANKS_STATE_H_
#define GRATICULE_TRAINER_DISTRIBUTED_RANKS_STATE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "torch/csrc/distributed/c10d/Backend.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroup.hpp"
#include "torch/csrc/distributed/c10d/Store.hpp"
#include "trainer/distributed/heartbeat.h"
#include "trainer/distributed/ranks.h"

namespace graticule {

struct Ranks::State {
  ~State();

  // The first failure, also one that the heartbeat found.
  absl::Status Failure();
  // Runs `collective` where nothing has failed yet; what it throws is explained.
  absl::Status Call(std::string_view what, const std::function<void()>& collective);
  // The status of the exception that is being handled, of a collective that began at `begin`.
  absl::Status Explain(std::string_view what, std::chrono::steady_clock::time_point begin);

  double timeout_seconds = 0;
  c10::intrusive_ptr<c10d::Store> store, questions;
  c10::intrusive_ptr<c10d::Backend> control;
  c10::intrusive_ptr<c10d::ProcessGroup> gradients;
  std::unique_ptr<Heartbeat> heartbeat;
  absl::Status failure;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_RANKS_STATE_H_
