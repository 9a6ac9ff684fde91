// What the tests of models share.
#ifndef GRATICULE_NN_TESTING_H_
#define GRATICULE_NN_TESTING_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "nn/weight_layout.h"

namespace graticule {

// Parameters and buffers; they share storage with the module's.
std::map<std::string, at::Tensor> ByName(const Module& module);

// What another code calls the parameters, in their order.
std::vector<std::string> NamesThere(const Module& module, const WeightLayout& layout);

// Draws weights under which every part of a model matters: normal of `std`, scales of norms around 1, moving variances
// positive. Fixed tables stay.
void Randomize(const Module& module, double std = 0.4);

// Of an entry.
double LargestDifference(const at::Tensor& a, const at::Tensor& b);

// The most bytes that tensors of the CPU that `run` makes on this thread take at once.
int64_t PeakBytes(const std::function<void()>& run);

PositionDelivery Preset(PositionDelivery::Preset preset);

// A file that a test has as data, by its path in the repository.
Safetensors ReadFixture(const std::string& path);

}  // namespace graticule

#endif  // GRATICULE_NN_TESTING_H_
