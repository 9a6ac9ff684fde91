// Traces of training steps, for Perfetto (https://ui.perfetto.dev) or chrome://tracing.
#ifndef GRATICULE_TRAINER_PROFILE_H_
#define GRATICULE_TRAINER_PROFILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ATen/record_function.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"

namespace graticule {

// Optimizer steps, counted from 0; the last is one of them.
struct ProfiledSteps {
  int64_t first = 0;
  int64_t last = 0;
};

// Of "FIRST:LAST". Errors: no such text, steps before the first, more than 1,000 steps.
absl::StatusOr<ProfiledSteps> ParseProfiledSteps(const std::string& text);

// A named range on this thread's line of the trace while it lives. Costs some nanoseconds where nothing is profiled.
class ProfiledRange {
 public:
  explicit ProfiledRange(std::string_view name) : record_(at::RecordScope::USER_SCOPE) {
    if (record_.isActive()) record_.before(name);
  }

 private:
  at::RecordFunction record_;
};

// Writes a Chrome trace of some steps through LibTorch's Kineto: operators with their shapes, a GPU's kernels, each
// step as a range "step 10", and the ProfiledRanges within.
class StepProfiler {
 public:
  // It will write RUN_DIRECTORY/trace-rank0-steps-10-12.json, named by the steps that were traced.
  StepProfiler(const ProfiledSteps& steps, const std::string& run_directory, int rank, c10::Device device);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  // Around each step, on the thread that trains. Of a run that resumes in the middle of the range the rest is traced.
  absl::Status BeginStep(int64_t step);
  // After the last one it writes the file, whole or not at all, and returns its path.
  absl::StatusOr<std::optional<std::string>> EndStep(int64_t step);
  // Likewise of a run that ends before the last step; nothing where nothing is being traced.
  absl::StatusOr<std::optional<std::string>> Finish();

  // What is to be said at the end of a run that has trained none of the steps; empty of any other.
  std::string Missed() const;

 private:
  const ProfiledSteps steps_;
  const std::string prefix_;  // of the file's path
  const c10::Device device_;
  std::optional<ProfiledSteps> traced_;
  bool on_ = false;
  std::optional<ProfiledRange> step_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_PROFILE_H_
