// The interface of the objectives: auxiliary losses read from the patch tokens, such as positional labels.
#ifndef GRATICULE_LABELS_OBJECTIVE_H_
#define GRATICULE_LABELS_OBJECTIVE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "nn/metrics.h"
#include "nn/module.h"
#include "nn/token_map.h"
#include "nn/weight_layout.h"

namespace graticule {

struct ObjectiveContext {
  int64_t width = 0;        // D of the backbone's tokens
  Size2d grid;              // h×w of its patch tokens
  bool can_select = false;  // whether ObjectiveInput has a pass_again
};

struct ObjectiveInput {
  TokenMap tokens;  // of the task's own pass
  // Another pass of the same images, with some of the patches; null where the backbone can't.
  std::function<TokenMap(const PatchSelection&)> pass_again = nullptr;
};

struct ObjectiveOutput {
  at::Tensor loss;  // 0-d, unweighted: the task multiplies by λ
  Metrics metrics;  // "loss", "accuracy", … : logged as train/NAME/loss
};

// Adds "loss", the mean over the `batch` images, and "accuracy", in per cent: `found` [] of the `count` guesses are
// right.
void AddMetrics(ObjectiveOutput& output, int64_t batch, const at::Tensor& found, int64_t count);

// Its parameters are trained and checkpointed beside the model's, and left out of exported and evaluated models.
class Objective : public Module {
 public:
  static constexpr char kKind[] = "objective";
  using Context = ObjectiveContext;

  // Reads grid and `kept` from the TokenMap, never from a constant.
  virtual ObjectiveOutput Forward(const ObjectiveInput& input) = 0;
  // What the head says of these images, B first: for looking at and for comparing with other programs. Nothing random.
  virtual at::Tensor Logits(const ObjectiveInput& input) = 0;
  // The raster index of the grid's cell that each patch token says it comes from: [B,N] int64, or [B,V] of the visible
  // tokens under masking; undefined where the head says no such thing. Nothing random.
  virtual at::Tensor PredictedCells(const ObjectiveInput& input) { return at::Tensor(); }
  // What its metrics are called unless the spec gives a name, for example "apl".
  virtual std::string DefaultName() const = 0;
  // The other codes whose checkpoints hold its weights under names of their own.
  virtual std::vector<WeightLayout> Layouts() const { return {}; }
};

}  // namespace graticule

#endif  // GRATICULE_LABELS_OBJECTIVE_H_
