// Forward and backward pass of DeiT-Ti in train mode, 16 images of 224×224: time, and the most memory that tensors take
// on top of the model and the images. First argument: fp32 (0), autocast to bfloat16 (1) or to half precision (2);
// second: whether activations are checkpointed.
#include <optional>

#include "ATen/core/Tensor.h"
#include "ATen/ops/randn.h"
#include "backbones/backbone.h"
#include "backbones/vit/vit.pb.h"
#include "benchmark/benchmark.h"
#include "nn/activation_checkpointing.h"
#include "nn/autocast.h"
#include "nn/module.h"
#include "nn/testing.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

void BM_DeitTiny(benchmark::State& state) {
  auto backbone = Registry<Backbone>::Create(Vit(), {.image_size = {224, 224}, .contract = {.class_token = true}});
  CHECK(backbone.ok()) << backbone.status();
  const at::Tensor images = at::randn({16, 3, 224, 224});
  const std::optional<at::ScalarType> dtypes[] = {std::nullopt, at::kBFloat16, at::kHalf};
  const auto pass = [&] {
    at::Tensor loss;
    {
      std::optional<ActivationCheckpointingScope> checkpointing;
      if (state.range(1)) checkpointing.emplace();
      const Autocast autocast(dtypes[state.range(0)], at::kCPU);
      loss = (*backbone)->Forward(images).tokens.to(at::kFloat).square().mean();
    }
    loss.backward();
  };
  const auto forget = [&] {
    for (const NamedParameter& parameter : (*backbone)->Parameters()) {
      at::Tensor(parameter.tensor).mutable_grad() = at::Tensor();
    }
  };
  for (auto _ : state) {
    pass();
    forget();
  }
  state.counters["peak_MB"] = PeakBytes(pass) / 1e6;
}

BENCHMARK(BM_DeitTiny)->ArgsProduct({{0, 1, 2}, {0, 1}})->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace graticule
