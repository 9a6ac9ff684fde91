// Exponential moving average of a model's weights.
#ifndef GRATICULE_TRAINER_EMA_H_
#define GRATICULE_TRAINER_EMA_H_

#include <vector>

#include "absl/status/status.h"
#include "nn/module.h"
#include "nn/safetensors.h"

namespace graticule {

// average ← decay·average + (1 − decay)·weight after each optimizer step; buffers are copied. Starts at the weights, as
// timm's ModelEmaV3.
class Ema {
 public:
  Ema(double decay, std::vector<NamedParameter> parameters, std::vector<NamedBuffer> buffers);

  void Update();
  // Exchanges the model's weights and the averages, in place; once more exchanges them back.
  void Swap();
  // Under the model's names. The tensors share storage with the averages.
  Safetensors State() const;
  absl::Status LoadState(const Safetensors& state);

 private:
  double decay_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> weights_, averages_;
  std::vector<std::string> buffer_names_;
  std::vector<at::Tensor> buffers_, buffer_copies_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_EMA_H_
