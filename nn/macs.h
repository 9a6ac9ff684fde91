// Counts multiply-adds by watching the operators that a computation calls.
#ifndef GRATICULE_NN_MACS_H_
#define GRATICULE_NN_MACS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "nn/module.h"

namespace graticule {

// Multiply-adds of matrix products, convolutions and attention, as published figures count them: no norms, no biases,
// no activations.
struct MacCount {
  int64_t total = 0;
  // Those with a parameter as operand, by its name ("blocks.0.attn.qkv.weight").
  std::map<std::string, int64_t> by_parameter;
  // The others, by the operator ("scaled_dot_product_attention").
  std::map<std::string, int64_t> by_operator;
};

// Of what `run` does on this thread, without gradients. Shapes are enough: the parameters and inputs may be on the meta
// device.
MacCount CountMacs(const std::vector<NamedParameter>& parameters, const std::function<void()>& run);

}  // namespace graticule

#endif  // GRATICULE_NN_MACS_H_
