#ifndef GRATICULE_LABELS_ABSOLUTE_ABSOLUTE_H_
#define GRATICULE_LABELS_ABSOLUTE_ABSOLUTE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "labels/absolute/absolute.pb.h"
#include "labels/objective.h"
#include "nn/layers.h"

namespace graticule {

// Absolute positional label: L_P = mean over batch and patches of cross-entropy(classifier(MLP(½z_i)), i), i the raster
// index of the grid cell (arXiv 2206.04981). Labels stay with the cell after flips and crops, and hold for mixed
// images; under masking the label is the visible token's own cell (TokenMap::kept).
//
// Metrics: "loss"; "accuracy", the share of patches whose cell is found, in percent.
class AbsolutePositionalLabelObjective : public Objective {
 public:
  static absl::StatusOr<std::unique_ptr<Objective>> Create(const AbsolutePositionalLabel& config,
                                                           const ObjectiveContext& context);

  ObjectiveOutput Forward(const ObjectiveInput& input) override;
  // [B,N,N]: each patch token's logits of the cells.
  at::Tensor Logits(const ObjectiveInput& input) override;
  at::Tensor PredictedCells(const ObjectiveInput& input) override { return Logits(input).argmax(2); }
  std::string DefaultName() const override { return "apl"; }
  // The paper's code: To2D.fc1, To2D.fc2 and head_coordinate.
  std::vector<WeightLayout> Layouts() const override;
  std::string TypeName() const override { return "AbsolutePositionalLabel"; }

 private:
  AbsolutePositionalLabelObjective(int64_t half_width, int64_t hidden_dim, int64_t embed_dim, int64_t cells);

  int64_t half_width_;
  Linear fc1_;   // D/2 → hidden
  Linear fc2_;   // hidden → embed
  Linear head_;  // embed → N
};

}  // namespace graticule

#endif  // GRATICULE_LABELS_ABSOLUTE_ABSOLUTE_H_
