// Mixed precision: LibTorch's autocast as a scope.
#ifndef GRATICULE_NN_AUTOCAST_H_
#define GRATICULE_NN_AUTOCAST_H_

#include <optional>

#include "c10/core/DeviceType.h"
#include "c10/core/ScalarType.h"

namespace graticule {

// What this thread's operators on devices of this type cast to; none where autocast is off. With Autocast, what was
// computed in one place can be computed again in another.
std::optional<at::ScalarType> CurrentAutocastDtype(c10::DeviceType device);

// While it lives, this thread's matrix products, convolutions and attention on devices of this type cast to `dtype`
// (at::kBFloat16 or at::kHalf), as torch.autocast's do; without a dtype nothing is cast, within another one's life too.
// Weights stay as they are.
class Autocast {
 public:
  Autocast(std::optional<at::ScalarType> dtype, c10::DeviceType device);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool previous_enabled_;
  at::ScalarType previous_dtype_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_AUTOCAST_H_
