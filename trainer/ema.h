// Exponential moving average of a model's weights.
#ifndef GRATICULE_TRAINER_EMA_H_
#define GRATICULE_TRAINER_EMA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "nn/module.h"
#include "nn/safetensors.h"

namespace graticule {

// average ← d·average + (1 − d)·weight after each optimizer step, of buffers of floats (statistics of BatchNorm) too;
// other buffers are copied. Starts at the weights, as timm's ModelEmaV3. It counts nothing itself: what it is after a
// step depends on the averages and on the step's number alone.
class Ema {
 public:
  // d is `decay`; with `warmup` it is less in the first steps: see Decay.
  Ema(double decay, bool warmup, const std::vector<NamedParameter>& parameters,
      const std::vector<NamedBuffer>& buffers);

  // After the optimizer step with this number, from 0.
  void Update(int64_t step);
  // d of that step; with warm-up min(decay, 1 − (1 + step)^(−2/3)), as timm's use_warmup: the first step's average is
  // its weights.
  double Decay(int64_t step) const;
  // Exchanges the model's weights and the averages, in place; once more exchanges them back.
  void Swap();
  // Under the model's names. The tensors share storage with the averages.
  Safetensors State() const;
  absl::Status LoadState(Safetensors state);

 private:
  double decay_;
  bool warmup_;
  std::vector<std::string> averaged_names_;
  std::vector<at::Tensor> weights_, averages_;
  std::vector<std::string> copied_names_;
  std::vector<at::Tensor> originals_, copies_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_EMA_H_
