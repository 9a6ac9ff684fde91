// AdamW by LibTorch's fused kernels.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_ADAMW_ADAMW_H_
#define GRATICULE_TRAINER_OPTIMIZERS_ADAMW_ADAMW_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/adamw/adamw.pb.h"
#include "trainer/optimizers/fused_adamw.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

class AdamWOptimizer : public Optimizer {
 public:
  // The parameters must be on the device where they are trained.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const AdamW& config, const OptimizerContext& context);

  void Step(double learning_rate) override { step_.Step(learning_rate); }
  // "exp_avg.NAME" and "exp_avg_sq.NAME" of the parameter's shape, "step.NAME" of no axis: how many steps it has seen.
  Safetensors State() const override;
  absl::Status LoadState(Safetensors state) override;

 private:
  explicit AdamWOptimizer(FusedAdamW step) : step_(std::move(step)) {}

  FusedAdamW step_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_ADAMW_ADAMW_H_
