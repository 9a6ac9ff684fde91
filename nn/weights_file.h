// Reads a file of weights in either of the formats that people have.
#ifndef GRATICULE_NN_WEIGHTS_FILE_H_
#define GRATICULE_NN_WEIGHTS_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "nn/safetensors.h"

namespace graticule {

// What ParseTorchFile reads, with its EMA weights where it has some and `ema` says so, or ParseSafetensors. The bytes
// decide which, not the name. Errors name the path.
absl::StatusOr<Safetensors> ReadWeightsFile(const std::string& path, bool ema);

}  // namespace graticule

#endif  // GRATICULE_NN_WEIGHTS_FILE_H_
