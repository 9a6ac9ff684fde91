#include "nn/testing.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "c10/core/Allocator.h"
#include "c10/core/GradMode.h"
#include "c10/util/ThreadLocalDebugInfo.h"
#include "plugin/logging.h"

namespace graticule {

std::map<std::string, at::Tensor> ByName(const Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const NamedParameter& parameter : module.Parameters()) tensors[parameter.name] = parameter.tensor;
  for (const NamedBuffer& buffer : module.Buffers()) tensors[buffer.name] = buffer.tensor;
  return tensors;
}

std::vector<std::string> NamesThere(const Module& module, const WeightLayout& layout) {
  std::vector<std::string> names;
  for (const NamedParameter& parameter : module.Parameters()) names.push_back(layout.name_there(parameter.name));
  return names;
}

void Randomize(const Module& module, double std) {
  c10::NoGradGuard no_grad;
  for (const NamedParameter& parameter : module.Parameters()) {
    if (!parameter.trainable) continue;
    at::Tensor tensor = parameter.tensor;
    tensor.normal_(0, std);
    const bool is_norm_scale = tensor.dim() == 1 && parameter.name.ends_with("weight");
    if (is_norm_scale) tensor.add_(1);
  }
  for (const NamedBuffer& buffer : module.Buffers()) {
    at::Tensor tensor = buffer.tensor;
    if (!tensor.is_floating_point()) continue;  // a count of batches
    tensor.normal_(0, std);
    if (buffer.name.ends_with("running_var")) tensor.exp_();
  }
}

double LargestDifference(const at::Tensor& a, const at::Tensor& b) { return a.sub(b).abs().max().item<double>(); }

namespace {

class MemoryUse : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    now_ += size;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  int64_t now_ = 0, peak_ = 0;
};

}  // namespace

int64_t PeakBytes(const std::function<void()>& run) {
  const auto use = std::make_shared<MemoryUse>();
  // What LibTorch's profiler learns of allocations by.
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, use);
  run();
  return use->peak();
}

PositionDelivery Preset(PositionDelivery::Preset preset) { return ResolvePositionDelivery({}, preset); }

Safetensors ReadFixture(const std::string& path) {
  auto fixture = ReadSafetensors(path);
  CHECK(fixture.ok()) << fixture.status();
  return *std::move(fixture);
}

}  // namespace graticule
