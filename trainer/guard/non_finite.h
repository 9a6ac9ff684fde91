// Finds where in a step the first number arose that is infinite or none.
#ifndef GRATICULE_TRAINER_GUARD_NON_FINITE_H_
#define GRATICULE_TRAINER_GUARD_NON_FINITE_H_

#include <functional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "data/batch.h"
#include "nn/module.h"

namespace graticule {

struct Diagnosis {
  // One line; empty where all is finite. For example: "the first value that is not finite came out of aten::addmm in
  // blocks.3.mlp.fc2 (forward): 12 infinite of 512 values [4,128] Float; the largest that went in is 3e+38".
  std::string cause;
  double loss = 0;           // the mean of the parts'
  double gradient_norm = 0;  // global, of the gradients of the step's loss
  // Of the parameters whose gradients are not finite, in the model's order.
  std::vector<std::string> bad_gradients;

  // Some lines: loss, gradient norm, cause, names.
  std::string ToString() const;
};

// Does the forward and backward passes of a step again and looks at every operator's results. `forward` gives the loss
// of a part, a 0-d tensor, from a state of the random draws of its own; gradients are those of loss_scale times the
// mean of the parts' losses. `batches` are what the parts are computed from. Named are, in this order: a parameter or
// an input of the batches that is not finite already; what the loss, if it is not finite, came from; what the gradients
// came from, the first of all by the order of computing; gradients that are finite but have a norm that is not.
//
// An operator is named with the module whose parameter it uses, cast copies included (the last of several), or else the
// one that was used before it; one of the backward pass by the forward operator whose gradient it computes. A value
// that is not finite but does not reach the loss (a mask of -inf before a softmax) is not named.
//
// Gradients and buffers are as before afterwards. Costs about two steps, and nothing where it is not called. The
// model's parameters need not be on the CPU. One call at a time in a process. The status is what `forward` or the
// backward pass throws.
absl::StatusOr<Diagnosis> FindNonFinite(const Module& model, const std::vector<Batch>& batches,
                                        const std::function<at::Tensor(int part)>& forward, double loss_scale = 1);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_GUARD_NON_FINITE_H_
