// What objectives add to a training step of 16 images: forward and backward of the objective alone, in fp32 (0) and
// under autocast to bfloat16 (1).
#include <memory>

#include "ATen/core/Tensor.h"
#include "ATen/ops/randn.h"
#include "benchmark/benchmark.h"
#include "labels/absolute/absolute.pb.h"
#include "labels/drloc/drloc.pb.h"
#include "labels/objective.h"
#include "labels/relative/relative.pb.h"
#include "nn/token_map.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "trainer/device.h"

namespace graticule {
namespace {

template <typename Config>
void BM_Objective(benchmark::State& state, const Config& config, Size2d grid, int64_t width) {
  auto objective = Registry<Objective>::Create(config, {.width = width, .grid = grid});
  CHECK(objective.ok()) << objective.status();
  const TokenMap map{.tokens = at::randn({16, grid.area(), width}).requires_grad_(true), .grid = grid};
  for (auto _ : state) {
    ObjectiveOutput output;
    {
      const AutocastScope autocast(state.range(0) == 1 ? Trainer::BF16 : Trainer::FP32, c10::kCPU);
      output = (*objective)->Forward({map});
    }
    output.loss.backward();
    benchmark::DoNotOptimize(output.metrics.Means());
  }
}

BENCHMARK_CAPTURE(BM_Objective, apl_on_deit_tiny, AbsolutePositionalLabel(), Size2d{14, 14}, 192)
    ->DenseRange(0, 1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Objective, apl_on_vit_base, AbsolutePositionalLabel(), Size2d{14, 14}, 768)
    ->DenseRange(0, 1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
// All 2,401 pairs, and as many of 38,416.
BENCHMARK_CAPTURE(BM_Objective, rpl_on_swin_tiny, RelativePositionalLabel(), Size2d{7, 7}, 768)
    ->DenseRange(0, 1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Objective, rpl_on_vit_base, RelativePositionalLabel(), Size2d{14, 14}, 768)
    ->DenseRange(0, 1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Objective, drloc_on_swin_tiny, Drloc(), Size2d{7, 7}, 768)
    ->DenseRange(0, 1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace graticule
