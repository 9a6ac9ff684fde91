#ifndef GRATICULE_LABELS_JIGSAW_JIGSAW_H_
#define GRATICULE_LABELS_JIGSAW_JIGSAW_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "labels/jigsaw/jigsaw.pb.h"
#include "labels/objective.h"
#include "nn/layers.h"

namespace graticule {

// L_jigsaw = mean over batch and kept patches of cross-entropy(MLP(ẑ_i), cell of i), where ẑ comes from a second pass
// of (1 − γ)·N patches (rounded down, but at least one), drawn at random, in random order and without position (arXiv
// 2207.11971; github.com/yingyichen-cyy/JigsawViT). The MLP has two hidden layers of width D, with ReLU.
//
// Metrics: "loss"; "accuracy", the share of patches whose cell is found, in percent.
class JigsawObjective : public Objective {
 public:
  // Errors: a backbone that can't run on a selection of the patches.
  static absl::StatusOr<std::unique_ptr<Objective>> Create(const Jigsaw& config, const ObjectiveContext& context);

  ObjectiveOutput Forward(const ObjectiveInput& input) override;
  // [B,N,N]: each token's logits of the cells, from a second pass of all patches in raster order, without position.
  at::Tensor Logits(const ObjectiveInput& input) override;
  // [B,N]: likewise of all patches.
  at::Tensor PredictedCells(const ObjectiveInput& input) override { return Logits(input).argmax(2); }
  std::string DefaultName() const override { return "jigsaw"; }
  // The authors' code.
  std::vector<WeightLayout> Layouts() const override;
  std::string TypeName() const override { return "Jigsaw"; }

 private:
  JigsawObjective(double mask_ratio, const ObjectiveContext& context);

  // [B,V,N]: what each patch token of a second pass says.
  at::Tensor Solve(const ObjectiveInput& input, const at::Tensor& kept) const;

  double mask_ratio_;
  Linear fc1_;   // D → D
  Linear fc2_;   // D → D
  Linear head_;  // D → N
};

}  // namespace graticule

#endif  // GRATICULE_LABELS_JIGSAW_JIGSAW_H_
