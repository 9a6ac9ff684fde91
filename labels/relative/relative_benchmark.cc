// RPL's share of a training step: forward and backward of the objective alone, batch 16.
#include <memory>

#include "ATen/core/Tensor.h"
#include "ATen/ops/randn.h"
#include "benchmark/benchmark.h"
#include "labels/objective.h"
#include "labels/relative/relative.pb.h"
#include "nn/token_map.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

void Run(benchmark::State& state, Size2d grid) {
  constexpr int64_t kWidth = 768;
  auto objective = Registry<Objective>::Create(RelativePositionalLabel(), {.width = kWidth, .grid = grid});
  CHECK(objective.ok()) << objective.status();
  const TokenMap map{.tokens = at::randn({16, grid.area(), kWidth}).requires_grad_(true), .grid = grid};
  for (auto _ : state) {
    ObjectiveOutput output = (*objective)->Forward({map});
    output.loss.backward();
    benchmark::DoNotOptimize(output.metrics.Means());
  }
}

// Swin-T's stage 4: all 2,401 pairs.
void BM_AllPairs(benchmark::State& state) { Run(state, {7, 7}); }
BENCHMARK(BM_AllPairs)->MeasureProcessCPUTime()->UseRealTime()->Unit(benchmark::kMillisecond);

// ViT-B: 2,401 of 38,416 pairs.
void BM_SampledPairs(benchmark::State& state) { Run(state, {14, 14}); }
BENCHMARK(BM_SampledPairs)->MeasureProcessCPUTime()->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace graticule
