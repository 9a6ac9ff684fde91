// Which parameters of a task are trained, and at which multiples of the learning rate and of the weight decay.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_PARAMETER_GROUPS_H_
#define GRATICULE_TRAINER_OPTIMIZERS_PARAMETER_GROUPS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "plugin/status.h"
#include "tasks/task.h"
#include "trainer/experiment.pb.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

// The parameters that are trainable and in no frozen group, in the order of task.Parameters(). From a frozen one
// requires_grad is taken, so that the backward pass leaves it out.
//
//   learning_rate_scale = trainer.layer_decay^(L + 1 - place) · its group's learning_rate
//   weight_decay_scale  = 0 where the parameter never decays, else its group's weight_decay
//
// The place, as in timm's param_groups_layer_decay (after BEiT, arXiv 2106.08254), is 0 before the first of the L
// layers (patch embedding, class token, position), i + 1 in layer i or between it and the layer before (Swin's
// merging), L in what else the backbone has after its layers (the last norm), and L + 1 beyond it (classifiers,
// objectives). Module::IsLayer says what a layer is, Module::LayerMembers what else belongs to one.
//
// Errors are all mistakes, with the fields' paths in the spec: those of CheckParameterGroups, a pattern that matches no
// trained parameter or none that is left by the groups before it, nothing left to train, a layer decay without layers.
absl::StatusOr<std::vector<TrainedParameter>> TrainedParameters(const Trainer& trainer, const Task& task);

// The mistakes in trainer.parameter_groups and trainer.layer_decay that show without a task.
void CheckParameterGroups(const Trainer& trainer, FieldErrors& errors);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_PARAMETER_GROUPS_H_
