// The interface of the objectives: auxiliary losses read from the patch tokens, such as positional labels.
#ifndef GRATICULE_LABELS_OBJECTIVE_H_
#define GRATICULE_LABELS_OBJECTIVE_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "nn/metrics.h"
#include "nn/module.h"
#include "nn/token_map.h"

namespace graticule {

struct ObjectiveContext {
  int64_t width = 0;  // D of the backbone's tokens
  Size2d grid;        // h×w of its patch tokens
};

struct ObjectiveOutput {
  at::Tensor loss;  // 0-d, unweighted: the task multiplies by λ
  Metrics metrics;  // "loss", "accuracy", … : logged as train/NAME/loss
};

// Its parameters are trained and checkpointed beside the model's, and left out of exported and evaluated models.
class Objective : public Module {
 public:
  static constexpr char kKind[] = "objective";
  using Context = ObjectiveContext;

  // Reads grid and `kept` from the TokenMap, never from a constant.
  virtual ObjectiveOutput Forward(const TokenMap& tokens) = 0;
  // What its metrics are called unless the spec gives a name, for example "apl".
  virtual std::string DefaultName() const = 0;
};

}  // namespace graticule

#endif  // GRATICULE_LABELS_OBJECTIVE_H_
