// AdamW by LibTorch's fused kernels.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_ADAMW_ADAMW_H_
#define GRATICULE_TRAINER_OPTIMIZERS_ADAMW_ADAMW_H_

#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/adamw/adamw.pb.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

class AdamWOptimizer : public Optimizer {
 public:
  // The parameters must be on the device where they are trained.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const AdamW& config, const OptimizerContext& context);

  void Step(double learning_rate) override;
  // "exp_avg.NAME" and "exp_avg_sq.NAME" of the parameter's shape, "step.NAME" of no axis: how many steps it has seen.
  Safetensors State() const override;
  // FailedPrecondition if tensors are missing, unknown or of another shape; then nothing is changed.
  absl::Status LoadState(const Safetensors& state) override;

 private:
  // A parameter and its state, all on its device.
  struct Slot {
    std::string name;
    at::Tensor parameter;
    at::Tensor exp_avg;
    at::Tensor exp_avg_sq;
    at::Tensor step;  // 0-d float, as the kernels want it
  };
  // Parameters that one call of the kernel can update.
  struct Group {
    double learning_rate_scale;
    double weight_decay;
    std::vector<Slot> slots;
  };

  AdamWOptimizer(const AdamW& config, const OptimizerContext& context);

  double beta1_;
  double beta2_;
  double epsilon_;
  double weight_decay_;
  std::vector<Group> groups_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_ADAMW_ADAMW_H_
