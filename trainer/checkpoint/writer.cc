#include "trainer/checkpoint/writer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "c10/core/Event.h"
#include "c10/core/GradMode.h"
#include "c10/core/impl/VirtualGuardImpl.h"
#include "nn/parallel.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr Safetensors Checkpoint::*kParts[] = {&Checkpoint::model, &Checkpoint::objectives, &Checkpoint::ema,
                                               &Checkpoint::optimizer};

double SecondsSince(absl::Time start) { return absl::ToDoubleSeconds(absl::Now() - start); }

// What one thread copies at a time.
struct Piece {
  char* to;
  const char* from;
  size_t size;
};
constexpr size_t kPieceSize = 256 << 10;

// Past the caches, which hold what the training works on: a third faster than memcpy. `to` lies at a multiple of 16.
void CopyPiece(const Piece& piece) {
  using Vector = int64_t __attribute__((vector_size(16)));
  size_t at = 0;
  for (; at + sizeof(Vector) <= piece.size; at += sizeof(Vector)) {
    Vector vector;
    std::memcpy(&vector, piece.from + at, sizeof(vector));
    __builtin_nontemporal_store(vector, reinterpret_cast<Vector*>(piece.to + at));
  }
  std::memcpy(piece.to + at, piece.from + at, piece.size - at);
  // Such stores are ordered by nothing less.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// Into the memory of `copy`, where it has the same shapes and types from an earlier call. Copies between a device and
// pinned memory are only asked for; `pieces` are left to do.
void CopyTensors(const Safetensors& from, Safetensors& copy, std::vector<Piece>& pieces) {
  copy.metadata = from.metadata;
  copy.tensors.resize(from.tensors.size());
  for (size_t i = 0; i < from.tensors.size(); ++i) {
    const auto& [name, tensor] = from.tensors[i];
    at::Tensor& buffer = copy.tensors[i].second;
    if (!buffer.defined() || buffer.sizes() != tensor.sizes() || buffer.scalar_type() != tensor.scalar_type()) {
      buffer = at::empty(tensor.sizes(), at::TensorOptions(tensor.scalar_type()).pinned_memory(tensor.is_cuda()));
    }
    copy.tensors[i].first = name;
    if (!tensor.is_cpu() || !tensor.is_contiguous()) {
      buffer.copy_(tensor, /*non_blocking=*/true);
      continue;
    }
    char* const to = static_cast<char*>(buffer.mutable_data_ptr());
    const char* const data = static_cast<const char*>(tensor.const_data_ptr());
    for (size_t at = 0; at < tensor.nbytes(); at += kPieceSize) {
      pieces.push_back({to + at, data + at, std::min(kPieceSize, tensor.nbytes() - at)});
    }
  }
}

// Where the work that has been given to the device of the tensors ends; nothing where they are on the CPU.
std::optional<c10::Event> EndOfCopies(const Checkpoint& checkpoint) {
  for (const auto part : kParts) {
    for (const auto& [name, tensor] : (checkpoint.*part).tensors) {
      if (!tensor.is_cuda()) continue;
      const c10::impl::VirtualGuardImpl device(tensor.device().type());
      std::optional<c10::Event> event(std::in_place, tensor.device().type());
      event->record(device.getStream(tensor.device()));
      return event;
    }
  }
  return std::nullopt;
}

}  // namespace

std::string CheckpointWriter::Result::ToString() const {
  if (!saved.ok()) return std::string(saved.message());
  std::string text = absl::StrFormat("saved step %d in %.1f s", step, write_seconds);
  if (!pruned.ok()) absl::StrAppend(&text, ", but not every old checkpoint could go: ", std::string(pruned.message()));
  return text;
}

class CheckpointWriter::Impl {
 public:
  explicit Impl(std::string run_directory)
      : run_directory_(std::move(run_directory)), thread_([this] { WriteUntilStopped(); }) {}

  ~Impl() {
    {
      const absl::MutexLock lock(&mutex_);
      stopped_ = true;
    }
    thread_.join();
  }

  absl::Status Save(const Checkpoint& checkpoint, const Retention& retention) {
    const absl::Time start = absl::Now();
    WaitUntilIdle();
    absl::Status status;
    try {
      const c10::NoGradGuard no_grad;
      std::vector<Piece> pieces;
      for (const auto part : kParts) CopyTensors(checkpoint.*part, copy_.*part, pieces);
      copied_ = EndOfCopies(checkpoint);
      ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i) { CopyPiece(pieces[i]); });
    } catch (...) {
      status = CurrentExceptionToStatus(absl::StrCat("copying the tensors of step ", checkpoint.state.step()));
    }
    const double stall = SecondsSince(start);
    stall_seconds_ += stall;
    RETURN_IF_ERROR(status);
    copy_.state = checkpoint.state;
    retention_ = retention;
    stall_ = stall;
    const absl::MutexLock lock(&mutex_);
    writing_ = true;
    return absl::OkStatus();
  }

  absl::Status Wait() {
    WaitUntilIdle();
    return saved_;
  }

  std::optional<Result> Finished() {
    const absl::MutexLock lock(&mutex_);
    if (results_.empty()) return std::nullopt;
    std::optional<Result> oldest = std::move(results_.front());
    results_.pop_front();
    return oldest;
  }

  double stall_seconds() const { return stall_seconds_; }

 private:
  void WaitUntilIdle() {
    const absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](bool* writing) { return !*writing; }, &writing_));
  }

  void WriteUntilStopped() {
    // The training's kernels come first. Linux has a priority for each thread.
    setpriority(PRIO_PROCESS, gettid(), 10);
    while (true) {
      {
        const absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &Impl::HasWork));
        if (!writing_) return;
      }
      Result result = Write();
      const absl::MutexLock lock(&mutex_);
      saved_ = result.saved;
      results_.push_back(std::move(result));
      writing_ = false;
    }
  }

  bool HasWork() const { return writing_ || stopped_; }

  Result Write() {
    const absl::Time start = absl::Now();
    Result result{.step = copy_.state.step(), .stall_seconds = stall_};
    try {
      if (copied_.has_value()) copied_->synchronize();
      result.saved = SaveCheckpoint(run_directory_, copy_);
      result.write_seconds = SecondsSince(start);
      if (result.saved.ok()) result.pruned = PruneCheckpoints(run_directory_, retention_);
    } catch (...) {
      result.saved = CurrentExceptionToStatus(absl::StrCat("cannot save the checkpoint of step ", result.step));
    }
    return result;
  }

  const std::string run_directory_;
  double stall_seconds_ = 0;

  absl::Mutex mutex_;
  bool writing_ = false;
  bool stopped_ = false;
  absl::Status saved_;
  std::deque<Result> results_;

  // The thread's while `writing_`, else the caller's.
  Checkpoint copy_;
  std::optional<c10::Event> copied_;
  Retention retention_;
  double stall_ = 0;

  std::thread thread_;
};

CheckpointWriter::CheckpointWriter(std::string run_directory)
    : impl_(std::make_unique<Impl>(std::move(run_directory))) {}
CheckpointWriter::~CheckpointWriter() = default;
absl::Status CheckpointWriter::Save(const Checkpoint& checkpoint, const Retention& retention) {
  return impl_->Save(checkpoint, retention);
}
absl::Status CheckpointWriter::Wait() { return impl_->Wait(); }
std::optional<CheckpointWriter::Result> CheckpointWriter::Finished() { return impl_->Finished(); }
double CheckpointWriter::stall_seconds() const { return impl_->stall_seconds(); }

}  // namespace graticule
