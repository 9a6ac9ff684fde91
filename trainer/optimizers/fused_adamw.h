// The step of AdamW, for the optimizers that take it.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_FUSED_ADAMW_H_
#define GRATICULE_TRAINER_OPTIMIZERS_FUSED_ADAMW_H_

#include <vector>

#include "nn/safetensors.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/optimizers/slots.h"

namespace graticule {

// The formula is in adamw/README.md; LibTorch's fused kernels compute it.
class FusedAdamW {
 public:
  struct Options {
    double beta1;
    double beta2;
    double epsilon;
    double weight_decay;
  };
  FusedAdamW(const std::vector<TrainedParameter>& parameters, const Options& options);

  void Step(double learning_rate);
  // "exp_avg.NAME" and "exp_avg_sq.NAME" of the parameter's shape, "step.NAME" of no axis: how many steps it has seen.
  void AddState(Safetensors& state) const { slots_.AddState(state); }

 private:
  Options options_;
  Slots slots_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_FUSED_ADAMW_H_
