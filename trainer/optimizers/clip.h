// Clipping of gradients, without a look at them by the host.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_CLIP_H_
#define GRATICULE_TRAINER_OPTIMIZERS_CLIP_H_

#include <vector>

#include "ATen/core/Tensor.h"
#include "plugin/status.h"
#include "trainer/experiment.pb.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

// The Euclidean norm of all tensors' entries together: 0-d float on their device; infinite or not a number where an
// entry is. Undefined for no tensors.
at::Tensor GlobalNorm(const std::vector<at::Tensor>& tensors);

// Changes the gradients that the parameters hold, in place, as one of the three fields says; does nothing without any.
//
//   trainer.clip_norm      g ← g · min(1, clip_norm / (‖all g‖ + 1e-6)), as PyTorch's clip_grad_norm_
//   trainer.clip_value     g ← min(max(g, -clip_value), clip_value) by entry
//   trainer.clip_adaptive  g_u ← g_u · min(1, clip_adaptive · max(‖w_u‖, 1e-3) / ‖g_u‖) by unit u, as timm's
//                          adaptive_clip_grad: a unit is a row of a weight's first axis, or a whole vector. Classifiers
//                          are left out, as in the paper.
//
// Returns the GlobalNorm of the gradients as they were before, whatever is clipped.
at::Tensor ClipGradients(const Trainer& trainer, const std::vector<TrainedParameter>& parameters);

// The mistakes in the three fields, of which at most one may be given.
void CheckClipping(const Trainer& trainer, FieldErrors& errors);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_CLIP_H_
