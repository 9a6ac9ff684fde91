// Lion.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_LION_LION_H_
#define GRATICULE_TRAINER_OPTIMIZERS_LION_LION_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/lion/lion.pb.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/optimizers/slots.h"

namespace graticule {

class LionOptimizer : public Optimizer {
 public:
  // The parameters must be on the device where they are trained.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const Lion& config, const OptimizerContext& context);

  void Step(double learning_rate) override;
  // "exp_avg.NAME" of the parameter's shape.
  Safetensors State() const override;
  absl::Status LoadState(Safetensors state) override;

 private:
  // `config` with all defaults filled in.
  LionOptimizer(const Lion& config, const OptimizerContext& context);

  const Lion config_;
  Slots slots_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_LION_LION_H_
