#include "tests/faults/fault_objective/fault_objective.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "plugin/registry.h"

namespace graticule_test {

absl::StatusOr<std::unique_ptr<graticule::Objective>> FaultObjectiveImpl::Create(
    const FaultObjective& config, const graticule::ObjectiveContext& context) {
  return std::unique_ptr<graticule::Objective>(new FaultObjectiveImpl(config));
}

graticule::ObjectiveOutput FaultObjectiveImpl::Forward(const graticule::ObjectiveInput& input) {
  ++calls_;
  graticule::ObjectiveOutput output{.loss = input.tokens.tokens.sum().mul(0)};
  const char* rank = std::getenv("RANK");
  if (config_.has_rank() && config_.rank() != (rank == nullptr ? 0 : std::atoi(rank))) return output;
  const int64_t after = calls_ - config_.nan_at_call();
  if (config_.nan_at_call() > 0 && after >= 0 && after < std::max<int64_t>(config_.calls(), 1)) {
    output.loss = output.loss.mul(std::numeric_limits<double>::quiet_NaN());
  }
  if (calls_ == config_.sleep_at_call()) absl::SleepFor(absl::Seconds(config_.sleep_seconds()));
  return output;
}

namespace {
const graticule::Registration<graticule::Objective, FaultObjective> kRegistration(
    "Misbehaves in a step of one's choice: for tests", "", &FaultObjectiveImpl::Create);
}  // namespace
}  // namespace graticule_test
