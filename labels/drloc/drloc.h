#ifndef GRATICULE_LABELS_DRLOC_DRLOC_H_
#define GRATICULE_LABELS_DRLOC_DRLOC_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "labels/drloc/drloc.pb.h"
#include "labels/objective.h"
#include "nn/layers.h"

namespace graticule {

// Dense relative localization: an MLP on concat(z_i, z_j) says δ(i, j), the distance of the patches in rows and in
// columns, for random ordered pairs (i, j), independent and uniform (arXiv 2106.03746; github.com/yhlleo/VTs-Drloc).
// δ's rows are |row_i − row_j|, or row_i − row_j + h − 1, and its columns alike:
//
//   L1    mean |MLP − δ|
//   CE    cross-entropy(logits of rows, δ's rows) + the same of columns
//   CBR   of rows plus of columns: mean of (μ − δ)²/σ² + 0.001·log σ², μ and σ² the mean and variance of
//   softmax(logits)
//
// Metrics: "loss"; "accuracy", the share of pairs whose distances are both found, rounded where the loss is L1, in
// percent.
class DrlocObjective : public Objective {
 public:
  static absl::StatusOr<std::unique_ptr<Objective>> Create(const Drloc& config, const ObjectiveContext& context);

  ObjectiveOutput Forward(const ObjectiveInput& input) override;
  // Of all pairs, (i, j) in row i·N + j: [B,N²,2], rows and columns, for L1; else [B,N²,R+C], the logits of the R
  // distances of rows, then of the C of columns.
  at::Tensor Logits(const ObjectiveInput& input) override;
  std::string DefaultName() const override { return "drloc"; }
  // The authors' code, which has one head or, in Swin and CvT, a list of them.
  std::vector<WeightLayout> Layouts() const override;
  std::string TypeName() const override { return "Drloc"; }

 private:
  // `config` with its defaults filled in.
  DrlocObjective(const Drloc& config, const ObjectiveContext& context);

  // pairs [...,2D] to [...,2] or [...,R+C].
  at::Tensor Head(const at::Tensor& pairs) const;

  Drloc config_;
  Size2d distances_;  // R and C: how many there are, of rows and of columns
  Linear fc1_;        // 2D → hidden
  Linear fc2_;        // hidden → hidden
  // For L1, hidden → 2. Else fc3 and two classifiers.
  std::unique_ptr<Linear> head_, fc3_, head_rows_, head_columns_;
};

}  // namespace graticule

#endif  // GRATICULE_LABELS_DRLOC_DRLOC_H_
