// Muon: momentum, orthogonalised by Newton-Schulz iterations.
#ifndef GRATICULE_TRAINER_OPTIMIZERS_MUON_MUON_H_
#define GRATICULE_TRAINER_OPTIMIZERS_MUON_MUON_H_

#include <memory>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "trainer/optimizers/fused_adamw.h"
#include "trainer/optimizers/muon/muon.pb.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/optimizers/slots.h"

namespace graticule {

class MuonOptimizer : public Optimizer {
 public:
  // The parameters must be on the device where they are trained. Errors: parameters of which none is a matrix
  // (TrainedParameter::Role), a pattern that matches no matrix.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const Muon& config, const OptimizerContext& context);

  void Step(double learning_rate) override;
  // Of matrices "momentum_buffer.NAME", of its shape; of the others AdamW's.
  Safetensors State() const override;
  absl::Status LoadState(Safetensors state) override;

 private:
  // `config` with all defaults filled in.
  MuonOptimizer(const Muon& config, const std::vector<TrainedParameter>& matrices,
                const std::vector<TrainedParameter>& others);

  void StepGroup(const Slots::Group& group, double learning_rate) const;

  const Muon config_;
  Slots matrices_;
  FusedAdamW others_;
};

// [n,r,c] with r ≤ c: of each matrix G = U·S·Vᵀ about U·Vᵀ, its singular values within 0.7 and 1.2 after 5 iterations
// (those far below the largest excepted). In the type that it is given in.
at::Tensor Orthogonalize(const at::Tensor& matrices, int iterations);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_MUON_MUON_H_
