#include "trainer/device.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "ATen/Context.h"
#include "ATen/Parallel.h"
#include "ATen/detail/CUDAHooksInterface.h"
#include "ATen/ops/addcmul.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/tensor.h"
#include "absl/strings/str_cat.h"
#include "c10/core/impl/VirtualGuardImpl.h"
#include "data/random.h"
#include "nn/parallel.h"

namespace graticule {

absl::StatusOr<c10::Device> ChooseDevice(const Trainer& trainer, int local_rank) {
  if (trainer.device() == Trainer::CPU) return c10::Device(c10::kCPU);
  const int devices = at::globalContext().hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  if (trainer.device() == Trainer::CUDA && devices == 0) {
    return absl::FailedPreconditionError("CUDA is asked for, but this program sees no CUDA device");
  }
  // Launchers may show each process its own GPU alone.
  if (devices == 1) return c10::Device(c10::kCUDA, 0);
  if (devices > 0 && local_rank >= devices) {
    return absl::FailedPreconditionError(absl::StrCat("process ", local_rank, " of this machine has no GPU: there are ",
                                                      devices, ", and each process needs one of its own"));
  }
  return devices > 0 ? c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(local_rank)) : c10::Device(c10::kCPU);
}

void MakeCurrent(c10::Device device) {
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
}

void SetThreads(const Trainer& trainer, int processes) {
  if (trainer.threads() > 0) {
    at::set_num_threads(trainer.threads());
  } else if (processes > 1 && std::getenv("OMP_NUM_THREADS") == nullptr) {
    at::set_num_threads(std::max<int>(1, std::thread::hardware_concurrency() / processes));
  }
}

void SetTf32(const Trainer& trainer) {
  // These two keep LibTorch's older and newer settings of the same thing in step; its getters throw where they differ.
  // cuDNN's is on where nobody says otherwise.
  at::globalContext().setAllowTF32CuBLAS(trainer.tf32());
  at::globalContext().setAllowTF32CuDNN(trainer.tf32());
}

void SeedDraws(std::initializer_list<uint64_t> key) { at::manual_seed(HashKey(key)); }

const std::map<std::string, Trainer::Precision>& PrecisionsByName() {
  static const auto* const precisions = new std::map<std::string, Trainer::Precision>{
      {"fp32", Trainer::FP32}, {"bf16", Trainer::BF16}, {"fp16", Trainer::FP16}};
  return *precisions;
}

std::string PrecisionName(Trainer::Precision precision) {
  for (const auto& [name, value] : PrecisionsByName()) {
    if (value == precision) return name;
  }
  return "fp32";
}

std::optional<at::ScalarType> AutocastDtype(Trainer::Precision precision) {
  switch (precision) {
    case Trainer::BF16:
      return at::kBFloat16;
    case Trainer::FP16:
      return at::kHalf;
    default:
      return std::nullopt;
  }
}

ChannelStatistics StatisticsOf(const Data& data) {
  ChannelStatistics statistics;
  if (data.mean_size() == 3) std::copy(data.mean().begin(), data.mean().end(), statistics.mean.begin());
  if (data.std_size() == 3) std::copy(data.std().begin(), data.std().end(), statistics.std.begin());
  return statistics;
}

Normalizer::Normalizer(const Data& data, c10::Device device) : device_(device) {
  const ChannelStatistics statistics = StatisticsOf(data);
  std::vector<float> scale(3), shift(3);
  for (int c = 0; c < 3; ++c) {
    scale[c] = 1 / (255 * statistics.std[c]);
    shift[c] = -statistics.mean[c] / statistics.std[c];
  }
  scale_ = at::tensor(scale).view({1, 3, 1, 1}).to(device);
  shift_ = at::tensor(shift).view({1, 3, 1, 1}).to(device);
}

namespace {

// In one pass from channels-last bytes to contiguous floats, for which LibTorch's operators need three.
at::Tensor NormalizeOnCpu(const at::Tensor& images, const at::Tensor& scale, const at::Tensor& shift) {
  const at::Tensor source = images.permute({0, 2, 3, 1}).contiguous();  // [B,H,W,3]
  at::Tensor result = at::empty(images.sizes(), images.options().dtype(at::kFloat));
  const int64_t pixels = images.size(2) * images.size(3);
  const uint8_t* from = source.const_data_ptr<uint8_t>();
  float* to = result.mutable_data_ptr<float>();
  const float* scales = scale.const_data_ptr<float>();
  const float* shifts = shift.const_data_ptr<float>();
  ParallelFor(images.size(0), [&](int64_t image) {
    for (int64_t c = 0; c < 3; ++c) {
      const uint8_t* pixel = from + image * 3 * pixels + c;
      float* plane = to + (image * 3 + c) * pixels;
      for (int64_t i = 0; i < pixels; ++i) plane[i] = shifts[c] + static_cast<float>(pixel[3 * i]) * scales[c];
    }
  });
  return result;
}

}  // namespace

at::Tensor Normalizer::operator()(const at::Tensor& images) const {
  if (device_.is_cpu()) return NormalizeOnCpu(images, scale_, shift_);
  const at::Tensor floats =
      images.to(device_, /*non_blocking=*/true).to(at::kFloat, false, false, at::MemoryFormat::Contiguous);
  return at::addcmul(shift_, floats, scale_);
}

Batch Normalizer::operator()(const Batch& batch) const {
  Batch ready = batch;
  ready.images = (*this)(batch.images);
  ready.labels = batch.labels.to(device_, /*non_blocking=*/true);
  if (batch.soft_labels.defined()) ready.soft_labels = batch.soft_labels.to(device_, /*non_blocking=*/true);
  return ready;
}

}  // namespace graticule
