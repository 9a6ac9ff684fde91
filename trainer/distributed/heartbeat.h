// Who of the ranks is alive and where: each leaves a sign of life in the common store every second, and what one finds
// out about a failure all others repeat.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_HEARTBEAT_H_
#define GRATICULE_TRAINER_DISTRIBUTED_HEARTBEAT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "torch/csrc/distributed/c10d/Store.hpp"

namespace graticule {

struct HeartbeatOptions {
  // For this alone: a call on it may block as long as the store's host does not answer.
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0;
  int size = 1;
  // The store ends with this process; it stays a while so that the others hear the verdict.
  bool hosts_store = false;
  // Who is lost where the store no longer answers: "rank 0".
  std::string store_host;
  // How long a rank waits for the others, and how often it gives a sign of life.
  double timeout_seconds = 600;
  double interval_seconds = 1;
  // For collectives that don't notice themselves that a rank is gone or late: called once, on the heartbeat's thread,
  // when another rank gives no sign of life or stays behind for the timeout, or when there is a verdict. May be null.
  std::function<void()> abort;
  // Called once this rank's own words are the verdict. May be null.
  std::function<void()> failed;
};

class Heartbeat {
 public:
  explicit Heartbeat(HeartbeatOptions options);
  // The others see that this rank has left.
  ~Heartbeat();

  void SetProgress(int64_t step, std::string_view phase);

  // Before a collective: the n-th of a rank meets the n-th of the others.
  void CountCall();

  // Why a collective failed: a rank's own last words, a rank that left or gives no sign of life, one that has not come
  // where `timed_out`, else `error` as it stands. Takes some seconds. All ranks get the first verdict of any.
  absl::Status Explain(const absl::Status& error, bool timed_out);
  // The verdict where `abort` was called for one: what collectives did since is void. OK else.
  absl::Status Aborted() const;
  // See Ranks::ReportFailure.
  void ReportFailure(std::string_view words);

 private:
  struct Shared;
  static void Run(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;  // with the thread, which may be left behind in a call that never returns
  std::thread thread_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_HEARTBEAT_H_
