// Where and how precisely a step is computed, and where its randomness comes from.
#ifndef GRATICULE_TRAINER_DEVICE_H_
#define GRATICULE_TRAINER_DEVICE_H_

#include <cstdint>
#include <initializer_list>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "data/batch.h"
#include "data/statistics.h"
#include "trainer/experiment.pb.h"

namespace graticule {

// The device that the spec asks for, or an error if this build or machine has none.
absl::StatusOr<c10::Device> ChooseDevice(const Trainer& trainer);

// Threads of the CPU's kernels from now on.
void SetThreads(const Trainer& trainer);

// First word after the seed in the key of draws, so that no two purposes share a stream.
enum DrawsPurpose : uint64_t { kDrawsOfWeights = 1, kDrawsOfStep = 2 };

// Reseeds the default generators of all devices from a key: what weights and drop path draw next depends on it alone.
void SeedDraws(std::initializer_list<uint64_t> key);

// Autocast to bfloat16 while it lives, where the precision asks for it; nothing in fp32. Weights stay as they are.
class AutocastScope {
 public:
  AutocastScope(Trainer::Precision precision, c10::Device device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  c10::DeviceType device_;
  bool on_;
  bool previous_enabled_ = false;
  at::ScalarType previous_dtype_ = at::kFloat;
};

// What the data's mean and std say.
ChannelStatistics StatisticsOf(const Data& data);

// Makes a loader's batch what a model reads: on the device, float, (x/255 - mean) / std a channel.
class Normalizer {
 public:
  Normalizer(const Data& data, c10::Device device);
  Batch operator()(const Batch& batch) const;
  // [B,3,H,W] uint8 to float.
  at::Tensor operator()(const at::Tensor& images) const;

 private:
  c10::Device device_;
  at::Tensor scale_, shift_;  // [1,3,1,1]
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DEVICE_H_
