#include "trainer/loss_scaler.h"

#include <limits>

#include "ATen/ops/_foreach_mul.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"

namespace graticule {
namespace {

constexpr double kSmallestScale = 1.0 / (1 << 24);

}  // namespace

LossScaler::LossScaler(const LossScalerOptions& options)
    : options_(options), state_{.scale = options.initial_scale, .growth_steps = 0} {}

at::Tensor LossScaler::Scale(const at::Tensor& loss) const { return loss.mul(state_.scale); }

void LossScaler::Unscale(at::TensorList gradients) const {
  const c10::NoGradGuard no_grad;
  at::_foreach_mul_(gradients, 1 / state_.scale);
}

void LossScaler::Update(bool finite) {
  if (!finite) {
    state_ = {.scale = state_.scale * options_.backoff_factor, .growth_steps = 0};
    return;
  }
  if (++state_.growth_steps < options_.growth_interval) return;
  state_.growth_steps = 0;
  const double grown = state_.scale * options_.growth_factor;
  if (grown <= std::numeric_limits<float>::max()) state_.scale = grown;
}

absl::Status LossScaler::Check() const {
  if (state_.scale >= kSmallestScale) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("gradients stay infinite or no numbers at a loss scale of ", state_.scale,
                   ", so it is not half precision's range that they exceed; train in bf16 or fp32 to find the cause"));
}

}  // namespace graticule
