#ifndef GRATICULE_LABELS_RELATIVE_RELATIVE_H_
#define GRATICULE_LABELS_RELATIVE_RELATIVE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "labels/objective.h"
#include "labels/relative/relative.pb.h"

namespace graticule {

// Relative positional label: L_Pr = mean over batch and ordered pairs (i, j), (i, i) included, of
// cross-entropy(classifier(MLP(z_ij)), label(i, j)) with z_ij the first half of z_i and the second half of z_j, and
// label(i, j) = (row_i − row_j + h − 1)·(2w − 1) + (col_i − col_j + w − 1) (arXiv 2206.04981). As in APL, labels belong
// to the grid's cells; under masking the pairs are those of the visible tokens.
//
// It computes the same function with less work: the first layer of a concatenation is a sum of two layers, each applied
// once a token, A·½z_i + B·½z_j; and the last two layers have nothing between them, so that their product is applied.
//
// Metrics: "loss"; "accuracy", the share of pairs whose label is found, in percent.
class RelativePositionalLabelObjective : public Objective {
 public:
  static absl::StatusOr<std::unique_ptr<Objective>> Create(const RelativePositionalLabel& config,
                                                           const ObjectiveContext& context);

  ObjectiveOutput Forward(const ObjectiveInput& input) override;
  // [B,N²,(2h−1)(2w−1)]: the logits of all pairs, (i, j) in row i·N + j.
  at::Tensor Logits(const ObjectiveInput& input) override;
  std::string DefaultName() const override { return "rpl"; }
  // The paper's code.
  std::vector<WeightLayout> Layouts() const override;
  std::string TypeName() const override { return "RelativePositionalLabel"; }

 private:
  // The head as it is computed.
  struct Factors {
    at::Tensor first, second;  // [B,N,hidden]: A·½z_i and B·½z_j + b; a pair's hidden layer is GELU(their sum)
    at::Tensor weight, bias;   // [classes,hidden] and [classes]: the last two layers
  };

  RelativePositionalLabelObjective(int64_t width, int64_t hidden_dim, int64_t embed_dim, int64_t classes,
                                   int64_t pairs_per_image);

  Factors Factor(const at::Tensor& patches) const;

  int64_t half_width_;
  int64_t pairs_per_image_;             // 0: all
  at::Tensor fc1_weight_, fc1_bias_;    // D → hidden
  at::Tensor fc2_weight_, fc2_bias_;    // hidden → embed
  at::Tensor head_weight_, head_bias_;  // embed → (2h−1)(2w−1)
};

}  // namespace graticule

#endif  // GRATICULE_LABELS_RELATIVE_RELATIVE_H_
