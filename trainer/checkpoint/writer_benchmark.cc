// Saving beside the training and loading, of the states of DeiT's models: weights, moving average, AdamW's two moments.
#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/matmul.h"
#include "ATen/ops/rand.h"
#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "plugin/logging.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/writer.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

// In the benchmark's working directory, so that one can choose the disk.
std::string FreshRun() {
  const std::string run = fs::absolute("writer_benchmark.tmp");
  fs::remove_all(run);
  fs::create_directories(run);
  return run;
}

// The parameters of a DeiT of this width, patches of 16×16 of 224×224 pixels and 1000 classes.
Safetensors Deit(int64_t width) {
  Safetensors contents;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    contents.tensors.emplace_back(name, at::rand(shape));
  };
  const auto add_linear = [&](const std::string& name, int64_t in, int64_t out) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  add("cls_token", {1, 1, width});
  add("pos_embed", {1, 197, width});
  add_linear("patch_embed.proj", 3 * 16 * 16, width);
  for (int i = 0; i < 12; ++i) {
    const std::string block = absl::StrCat("blocks.", i, ".");
    for (const char* norm : {"norm1", "norm2"}) add_linear(block + norm, 1, width);
    add_linear(block + "attn.qkv", width, 3 * width);
    add_linear(block + "attn.proj", width, width);
    add_linear(block + "mlp.fc1", width, 4 * width);
    add_linear(block + "mlp.fc2", 4 * width, width);
  }
  add_linear("norm", 1, width);
  add_linear("head", width, 1000);
  return contents;
}

Checkpoint NewCheckpoint(int64_t width) {
  Checkpoint checkpoint{.model = Deit(width), .ema = Deit(width)};
  for (const char* moment : {"exp_avg.", "exp_avg_sq."}) {
    for (const auto& [name, tensor] : Deit(width).tensors)
      checkpoint.optimizer.tensors.emplace_back(moment + name, tensor);
  }
  return checkpoint;
}

double Bytes(const Checkpoint& checkpoint) {
  double bytes = 0;
  for (const auto part : {&Checkpoint::model, &Checkpoint::ema, &Checkpoint::optimizer}) {
    for (const auto& [name, tensor] : (checkpoint.*part).tensors) bytes += static_cast<double>(tensor.nbytes());
  }
  return bytes;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// The argument is the width: 192 for DeiT-Ti, 384 for DeiT-S. Medians, after the first save, which makes the buffers.
void BM_Save(benchmark::State& state) {
  Checkpoint checkpoint = NewCheckpoint(state.range(0));
  CheckpointWriter writer(FreshRun());
  std::vector<double> stalls, writes;
  const auto save = [&] {
    checkpoint.state.set_step(checkpoint.state.step() + 1);
    CHECK(writer.Save(checkpoint, {.keep = 2}).ok());
    CHECK(writer.Wait().ok());
    return *writer.Finished();
  };
  const double first_stall = save().stall_seconds;
  for (auto _ : state) {
    const CheckpointWriter::Result result = save();
    stalls.push_back(result.stall_seconds);
    writes.push_back(result.write_seconds);
  }
  state.counters["megabytes"] = Bytes(checkpoint) / 1e6;
  state.counters["first_stall_ms"] = 1e3 * first_stall;
  state.counters["stall_ms"] = 1e3 * Median(stalls);
  state.counters["write_ms"] = 1e3 * Median(writes);
  state.counters["stall_%"] = 100 * Median(stalls) / Median(writes);
}
BENCHMARK(BM_Save)->Arg(192)->Arg(384)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(5);

// Matrix products on all of LibTorch's threads; the argument says whether DeiT-Ti is written all the while.
void BM_KernelsBesideSaving(benchmark::State& state) {
  Checkpoint checkpoint = NewCheckpoint(192);
  CheckpointWriter writer(FreshRun());
  const at::Tensor a = at::rand({1024, 1024}), b = at::rand({1024, 1024});
  for (int i = 0; i < 10; ++i) benchmark::DoNotOptimize(at::matmul(a, b));
  double saves = 0;
  bool writing = false;
  for (auto _ : state) {
    benchmark::DoNotOptimize(at::matmul(a, b));
    if (state.range(0) == 0) continue;
    if (writer.Finished().has_value()) writing = false;
    if (writing) continue;
    state.PauseTiming();
    checkpoint.state.set_step(checkpoint.state.step() + 1);
    CHECK(writer.Save(checkpoint, {.keep = 2}).ok());
    writing = true;
    ++saves;
    state.ResumeTiming();
  }
  state.counters["saves"] = saves;
}
BENCHMARK(BM_KernelsBesideSaving)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(5);

void BM_Load(benchmark::State& state) {
  const std::string run = FreshRun();
  const Checkpoint checkpoint = NewCheckpoint(state.range(0));
  CHECK(SaveCheckpoint(run, checkpoint).ok());
  for (auto _ : state) CHECK(LoadCheckpoint(CheckpointFolder(run, 0)).ok());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * Bytes(checkpoint)));
}
BENCHMARK(BM_Load)->Arg(192)->Arg(384)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace graticule
