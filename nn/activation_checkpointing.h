// Activation checkpointing (arXiv 1604.06174): layers keep their inputs alone and are computed again in the backward
// pass, which takes the memory of one layer instead of all, for about a third more work.
#ifndef GRATICULE_NN_ACTIVATION_CHECKPOINTING_H_
#define GRATICULE_NN_ACTIVATION_CHECKPOINTING_H_

#include <functional>

#include "ATen/core/Tensor.h"

namespace graticule {

// While one lives, layers that this thread runs through Checkpointed are checkpointed. The backward pass may come
// later.
class ActivationCheckpointingScope {
 public:
  ActivationCheckpointingScope();
  ~ActivationCheckpointingScope();
  ActivationCheckpointingScope(const ActivationCheckpointingScope&) = delete;
  ActivationCheckpointingScope& operator=(const ActivationCheckpointingScope&) = delete;

 private:
  bool previous_;
};

// A layer: x and a position, which may be undefined, to the layer's output.
using LayerFunction = std::function<at::Tensor(const at::Tensor& x, const at::Tensor& position)>;

// layer(x, position). In an ActivationCheckpointingScope its gradients are the same, but the layer is run once more in
// the backward pass, under the same autocast and with the same draws from the default generators. Outside of one, where
// no gradients are recorded, and inside another checkpointed layer it is a plain call.
//
// What the layer computes with besides x and position are parameters, which are no inputs here; they and what `layer`
// refers to live until the backward pass. They get their gradients in that pass's own order, each once, so that hooks
// of theirs (DDP's) fire once. There are no second derivatives.
at::Tensor Checkpointed(LayerFunction layer, const at::Tensor& x, const at::Tensor& position = {});

// Whether this thread computes a layer once more: what is to happen once a step, such as an update of running
// statistics, has happened then.
bool IsRecomputing();

}  // namespace graticule

#endif  // GRATICULE_NN_ACTIVATION_CHECKPOINTING_H_
