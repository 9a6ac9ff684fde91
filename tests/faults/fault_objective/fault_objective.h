#ifndef GRATICULE_TESTS_FAULTS_FAULT_OBJECTIVE_FAULT_OBJECTIVE_H_
#define GRATICULE_TESTS_FAULTS_FAULT_OBJECTIVE_FAULT_OBJECTIVE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "labels/objective.h"
#include "tests/faults/fault_objective/fault_objective.pb.h"

namespace graticule_test {

class FaultObjectiveImpl : public graticule::Objective {
 public:
  static absl::StatusOr<std::unique_ptr<graticule::Objective>> Create(const FaultObjective& config,
                                                                      const graticule::ObjectiveContext& context);

  graticule::ObjectiveOutput Forward(const graticule::ObjectiveInput& input) override;
  at::Tensor Logits(const graticule::ObjectiveInput& input) override { return input.tokens.tokens; }
  std::string DefaultName() const override { return "fault"; }
  std::string TypeName() const override { return "FaultObjective"; }

 private:
  explicit FaultObjectiveImpl(const FaultObjective& config) : config_(config) {}

  const FaultObjective config_;
  int64_t calls_ = 0;
};

}  // namespace graticule_test

#endif  // GRATICULE_TESTS_FAULTS_FAULT_OBJECTIVE_FAULT_OBJECTIVE_H_
