// Stochastic gradient descent by LibTorch's fused kernels.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_SGD_SGD_H_
#define GRATICULE_TRAINER_OPTIMIZERS_SGD_SGD_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/optimizers/sgd/sgd.pb.h"
#include "trainer/optimizers/slots.h"

namespace graticule {

class SgdOptimizer : public Optimizer {
 public:
  // The parameters must be on the device where they are trained.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const Sgd& config, const OptimizerContext& context);

  void Step(double learning_rate) override;
  // "momentum_buffer.NAME" of the parameter's shape and "step.NAME" of no axis, how many steps it has seen; nothing
  // without momentum.
  Safetensors State() const override;
  absl::Status LoadState(Safetensors state) override;

 private:
  // `config` with all defaults filled in.
  SgdOptimizer(const Sgd& config, const OptimizerContext& context);

  const Sgd config_;
  Slots slots_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_SGD_SGD_H_
