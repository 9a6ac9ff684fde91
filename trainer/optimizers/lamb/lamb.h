// LAMB, with the behaviour of NVIDIA's fused one and of timm's.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_LAMB_LAMB_H_
#define GRATICULE_TRAINER_OPTIMIZERS_LAMB_LAMB_H_

#include <memory>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/lamb/lamb.pb.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/optimizers/slots.h"

namespace graticule {

class LambOptimizer : public Optimizer {
 public:
  // The parameters must be on the device where they are trained.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const Lamb& config, const OptimizerContext& context);

  void Step(double learning_rate) override;
  // "mean.NAME" and "mean_square.NAME" of the parameter's shape, "step.NAME" of no axis: how many steps it has seen.
  Safetensors State() const override;
  absl::Status LoadState(Safetensors state) override;

 private:
  // `config` with all defaults filled in.
  LambOptimizer(const Lamb& config, const OptimizerContext& context);

  // `clip`: 0-d, what the gradients are multiplied by; undefined where they are taken as they are.
  void StepGroup(const Slots::Group& group, const at::Tensor& clip, double learning_rate) const;

  const Lamb config_;
  Slots slots_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_LAMB_LAMB_H_
