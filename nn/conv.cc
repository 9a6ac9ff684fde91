#include "nn/conv.h"

#include <cmath>
#include <vector>

#include "ATen/ops/batch_norm.h"
#include "ATen/ops/conv2d.h"
#include "c10/core/GradMode.h"
#include "nn/activation_checkpointing.h"

namespace graticule {

Conv2d::Conv2d(const Conv2dOptions& options) : options_(options) {
  const int64_t channels = options.in / options.groups;
  const double bound = 1 / std::sqrt(static_cast<double>(channels * options.kernel * options.kernel));
  weight_ = RegisterParameter(
      "weight", init::Uniform(NewParameter({options.out, channels, options.kernel, options.kernel}), -bound, bound),
      {.decay = options.decay});
  if (options.bias) bias_ = RegisterParameter("bias", init::Uniform(NewParameter({options.out}), -bound, bound));
}

at::Tensor Conv2d::Forward(const at::Tensor& x) const {
  return at::conv2d(x, weight_, bias_, options_.stride, options_.padding, /*dilation=*/1, options_.groups);
}

BatchNorm::BatchNorm(int64_t channels, double epsilon, double momentum)
    : epsilon_(epsilon),
      momentum_(momentum),
      weight_(RegisterParameter("weight", init::Ones(NewParameter({channels})))),
      bias_(RegisterParameter("bias", init::Zeros(NewParameter({channels})))),
      running_mean_(RegisterBuffer("running_mean", init::Zeros(NewParameter({channels})))),
      running_var_(RegisterBuffer("running_var", init::Ones(NewParameter({channels})))),
      num_batches_tracked_(RegisterBuffer("num_batches_tracked", init::Zeros(NewParameter({})).to(at::kLong))) {}

at::Tensor BatchNorm::Forward(const at::Tensor& x) const {
  const bool trains = training() && (weight_.requires_grad() || bias_.requires_grad());
  // A checkpointed layer has updated them when it ran the first time.
  const bool updated = trains && IsRecomputing();
  if (trains && !updated) {
    c10::NoGradGuard no_grad;
    at::Tensor(num_batches_tracked_).add_(1);
  }
  return at::batch_norm(x, weight_, bias_, updated ? at::Tensor() : running_mean_,
                        updated ? at::Tensor() : running_var_, trains, momentum_, epsilon_,
                        /*cudnn_enabled=*/true);
}

}  // namespace graticule
