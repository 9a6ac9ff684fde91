// Where and how precisely a step is computed, and where its randomness comes from.
#ifndef GRATICULE_TRAINER_DEVICE_H_
#define GRATICULE_TRAINER_DEVICE_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "c10/core/ScalarType.h"
#include "data/batch.h"
#include "data/statistics.h"
#include "nn/autocast.h"
#include "trainer/experiment.pb.h"

namespace graticule {

// The device that the spec asks for, or an error if this build or machine has none. Of several GPUs each process of a
// machine has its own.
absl::StatusOr<c10::Device> ChooseDevice(const Trainer& trainer, int local_rank = 0);

// What this thread does on GPUs is on this one from now on; nothing for the CPU. Who does not say so works on the
// first.
void MakeCurrent(c10::Device device);

// Threads of the CPU's kernels from now on: what the spec says, else what OMP_NUM_THREADS says, else a share of the
// cores for each of the `processes` on this machine.
void SetThreads(const Trainer& trainer, int processes = 1);

// Whether matrix products and convolutions of fp32 on GPUs use TF32, from now on.
void SetTf32(const Trainer& trainer);

// First word after the seed in the key of draws, so that no two purposes share a stream.
enum DrawsPurpose : uint64_t { kDrawsOfWeights = 1, kDrawsOfStep = 2 };

// Reseeds the default generators of all devices from a key: what weights and drop path draw next depends on it alone.
void SeedDraws(std::initializer_list<uint64_t> key);

// "fp32", "bf16", "fp16": what the program calls them on its command line and in what it prints.
const std::map<std::string, Trainer::Precision>& PrecisionsByName();
std::string PrecisionName(Trainer::Precision precision);

// What the precision casts to; none for fp32.
std::optional<at::ScalarType> AutocastDtype(Trainer::Precision precision);

// Autocast as the precision asks for.
class AutocastScope : public Autocast {
 public:
  AutocastScope(Trainer::Precision precision, c10::Device device) : Autocast(AutocastDtype(precision), device.type()) {}
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
