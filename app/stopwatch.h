// Time as a device sees it.
#ifndef GRATICULE_APP_STOPWATCH_H_
#define GRATICULE_APP_STOPWATCH_H_

#include <chrono>
#include <utility>

#include "c10/core/Device.h"
#include "c10/core/impl/VirtualGuardImpl.h"

namespace graticule {

// Seconds between looks at the clock, each after the device has done what it was given.
class Stopwatch {
 public:
  explicit Stopwatch(c10::Device device) : device_(device) { Lap(); }
  double Lap() {
    if (!device_.is_cpu()) c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  c10::Device device_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace graticule

#endif  // GRATICULE_APP_STOPWATCH_H_
