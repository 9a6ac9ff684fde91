// The parameters of an optimizer with their state, in groups that one call of a kernel over lists of tensors can
// update.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_SLOTS_H_
#define GRATICULE_TRAINER_OPTIMIZERS_SLOTS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

// A state tensor that an optimizer keeps of each parameter, zero at first, and in an UndrawnScope whatever it is.
struct StateTensor {
  enum class Kind {
    kLikeParameter,  // its shape, type and device
    kOnDevice,       // 0-d float on its device
    kOnHost,         // 0-d float on the CPU: to be read without waiting for the device
  };
  std::string name;  // "exp_avg"
  Kind kind = Kind::kLikeParameter;
};

class Slots {
 public:
  Slots(const std::vector<TrainedParameter>& parameters, std::vector<StateTensor> state);

  // Parameters of the same scales, device and type that hold a gradient, and as many of each other list. All share
  // storage with the optimizer's; parameters and gradients lie in memory as their shapes say.
  struct Group {
    double learning_rate_scale = 1;
    double weight_decay_scale = 1;
    std::vector<at::Tensor> parameters;
    std::vector<at::Tensor> gradients;
    std::vector<std::vector<at::Tensor>> state;  // by state tensor, in the order of the constructor
  };
  std::vector<Group> WithGradients() const;

  // Appends the state as STATE.PARAMETER.
  void AddState(Safetensors& state) const;

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter;
    std::vector<at::Tensor> state;
  };
  struct SlotGroup {
    double learning_rate_scale;
    double weight_decay_scale;
    std::vector<Slot> slots;
  };

  std::vector<StateTensor> state_;
  std::vector<SlotGroup> groups_;
};

// `from` into an optimizer's own State(), by name. FailedPrecondition, saying that it is of another model or optimizer,
// if tensors are missing, unknown or of another shape; then nothing is changed.
absl::Status LoadOptimizerState(Safetensors from, const Safetensors& own);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_SLOTS_H_
