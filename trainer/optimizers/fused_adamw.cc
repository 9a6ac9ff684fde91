#include "trainer/optimizers/fused_adamw.h"

#include "ATen/ops/_foreach_add.h"
#include "ATen/ops/_fused_adamw.h"
#include "c10/core/GradMode.h"

namespace graticule {

FusedAdamW::FusedAdamW(const std::vector<TrainedParameter>& parameters, const Options& options)
    : options_(options), slots_(parameters, {{"exp_avg"}, {"exp_avg_sq"}, {"step", StateTensor::Kind::kOnDevice}}) {}

void FusedAdamW::Step(double learning_rate) {
  c10::NoGradGuard no_grad;
  for (const Slots::Group& group : slots_.WithGradients()) {
    const std::vector<at::Tensor>&exp_avgs = group.state[0], &exp_avg_sqs = group.state[1], &steps = group.state[2];
    at::_foreach_add_(steps, 1);
    at::_fused_adamw_(group.parameters, group.gradients, exp_avgs, exp_avg_sqs, /*max_exp_avg_sqs=*/{}, steps,
                      learning_rate * group.learning_rate_scale, options_.beta1, options_.beta2,
                      options_.weight_decay * group.weight_decay_scale, options_.epsilon, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

}  // namespace graticule
