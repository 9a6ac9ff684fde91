// The dynamic scale of the loss in half precision.
#ifndef GRATICULE_TRAINER_LOSS_SCALER_H_
#define GRATICULE_TRAINER_LOSS_SCALER_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"

namespace graticule {

struct LossScalerOptions {
  double initial_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;
};

// Multiplies the loss by a scale, so that the gradients of half-precision numbers do not vanish, and divides the
// gradients by it before they are used. The scale shrinks after a step whose gradients are not finite, which the
// trainer skips, and grows after `growth_interval` finite steps in a row (arXiv 1710.03740; torch.amp.GradScaler's rule
// and defaults). Processes that see the same gradients keep the same scale.
class LossScaler {
 public:
  // All that a checkpoint needs.
  struct State {
    double scale;
    int64_t growth_steps;  // finite steps since the scale last changed
  };

  explicit LossScaler(const LossScalerOptions& options = {});

  at::Tensor Scale(const at::Tensor& loss) const;
  // Divides the gradients, in place.
  void Unscale(at::TensorList gradients) const;
  // After each step: whether all gradients of it were finite.
  void Update(bool finite);
  // An error where the scale has shrunk below 2⁻²⁴: then a gradient of every step is not finite, however small it is
  // made, and that is not for want of range.
  absl::Status Check() const;

  State GetState() const { return state_; }
  void SetState(const State& state) { state_ = state; }

 private:
  LossScalerOptions options_;
  State state_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_LOSS_SCALER_H_
