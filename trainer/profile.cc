#include "trainer/profile.h"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "c10/core/impl/VirtualGuardImpl.h"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "torch/csrc/autograd/profiler_kineto.h"

namespace graticule {
namespace {

namespace profiler = torch::autograd::profiler;

constexpr int64_t kMostSteps = 1000;  // some MB each, in memory until the end

}  // namespace

absl::StatusOr<ProfiledSteps> ParseProfiledSteps(const std::string& text) {
  const std::vector<std::string> ends = absl::StrSplit(text, ':');
  ProfiledSteps steps;
  if (ends.size() != 2 || !absl::SimpleAtoi(ends[0], &steps.first) || !absl::SimpleAtoi(ends[1], &steps.last)) {
    return absl::InvalidArgumentError(
        absl::StrCat("steps must be given as FIRST:LAST, for example 10:12; found '", text, "'"));
  }
  if (steps.first < 0 || steps.last < steps.first) {
    return absl::InvalidArgumentError(
        absl::StrCat("steps count from 0 and the last one must not be before the first; found '", text, "'"));
  }
  if (steps.last - steps.first >= kMostSteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kMostSteps, " steps can be profiled; found '", text, "'"));
  }
  return steps;
}

StepProfiler::StepProfiler(const ProfiledSteps& steps, const std::string& run_directory, int rank, c10::Device device)
    : steps_(steps), prefix_(absl::StrCat(run_directory, "/trace-rank", rank, "-steps-")), device_(device) {
  // Without a GPU Kineto calls that an error: on standard error, and in the trace.
  if (device_.is_cpu()) setenv("KINETO_LOG_LEVEL", "5", /*overwrite=*/0);
}

StepProfiler::~StepProfiler() {
  const absl::Status status = Finish().status();
  if (!status.ok()) LOG(ERROR) << status;
}

absl::Status StepProfiler::BeginStep(int64_t step) {
  if (step < steps_.first || step > steps_.last) return absl::OkStatus();
  try {
    if (!on_) {
      std::set<profiler::ActivityType> activities = {profiler::ActivityType::CPU};
      if (device_.is_cuda()) activities.insert(profiler::ActivityType::CUDA);
      const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO, /*report_input_shapes=*/true);
      profiler::prepareProfiler(config, activities);
      profiler::enableProfiler(config, activities);
      on_ = true;
      traced_ = {step, step};
    }
    traced_->last = step;
    step_.emplace(absl::StrCat("step ", step));
  } catch (...) {
    return CurrentExceptionToStatus("profiler");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> StepProfiler::EndStep(int64_t step) {
  step_.reset();
  if (step != steps_.last) return std::nullopt;
  return Finish();
}

absl::StatusOr<std::optional<std::string>> StepProfiler::Finish() {
  if (!on_) return std::nullopt;
  on_ = false;
  step_.reset();
  const std::string path = absl::StrCat(prefix_, traced_->first, "-", traced_->last, ".json");
  const std::string partial = path + ".partial";
  try {
    // Kernels that still run belong to the last step.
    if (!device_.is_cpu()) c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
    profiler::disableProfiler()->save(partial);
  } catch (...) {
    return CurrentExceptionToStatus("profiler");
  }
  // Kineto does not say whether it could write.
  const absl::StatusOr<std::string> trace = ReadFile(partial);
  std::error_code error;
  std::filesystem::remove(partial, error);
  RETURN_IF_ERROR(trace.status(), "the profiler's trace");
  if (trace->find_last_not_of(" \n") == std::string::npos || trace->at(trace->find_last_not_of(" \n")) != '}') {
    return absl::DataLossError(absl::StrCat("the profiler's trace: ", partial, " could not be written whole"));
  }
  RETURN_IF_ERROR(WriteFileAtomically(path, *trace), "the profiler's trace");
  return path;
}

std::string StepProfiler::Missed() const {
  if (traced_.has_value()) return "";
  return absl::StrCat("--profile=", steps_.first, ":", steps_.last,
                      ": this run has trained none of these steps, so there is no trace of them");
}

}  // namespace graticule
