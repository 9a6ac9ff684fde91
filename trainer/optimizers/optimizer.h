// The interface of the optimizers.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_OPTIMIZER_H_
#define GRATICULE_TRAINER_OPTIMIZERS_OPTIMIZER_H_

#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "nn/safetensors.h"

namespace graticule {

struct TrainedParameter {
  // What it is to the model, for optimizers and clipping that tell weights apart.
  enum class Role {
    kOther,       // a norm, a bias, a patch embedding, a position, an objective's head, …
    kMatrix,      // a weight in a layer or between two: a matrix, or a convolution's kernel over several channels
    kClassifier,  // of the task's classifiers, weight or bias
  };

  std::string name;
  at::Tensor tensor;               // on the device where it is trained
  double learning_rate_scale = 1;  // its learning rate is that of the step, times this
  double weight_decay_scale = 1;   // likewise; 0 for norms, biases, positions and class tokens
  Role role = Role::kOther;
};

// trainer/optimizers/parameter_groups.h makes them of a task.
struct OptimizerContext {
  std::vector<TrainedParameter> parameters;
};

class Optimizer {
 public:
  static constexpr char kKind[] = "optimizer";
  using Context = OptimizerContext;
  virtual ~Optimizer() = default;

  // One step with the gradients that the parameters hold, which stay as they are. A parameter without a gradient is
  // left as it is.
  virtual void Step(double learning_rate) = 0;
  // Tensors named STATE.PARAMETER, for example "exp_avg.blocks.0.norm1.weight", that share storage with the
  // optimizer's.
  virtual Safetensors State() const = 0;
  // FailedPrecondition if tensors are missing, unknown or of another shape; then nothing is changed. See LoadByName.
  virtual absl::Status LoadState(Safetensors state) = 0;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_OPTIMIZER_H_
