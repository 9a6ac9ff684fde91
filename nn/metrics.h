// Means that are kept on the device until somebody looks: adding to one never makes the host wait.
#ifndef GRATICULE_NN_METRICS_H_
#define GRATICULE_NN_METRICS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "ATen/core/Tensor.h"

namespace graticule {

class Metrics {
 public:
  Metrics() = default;
  // As Sums() gives them.
  explicit Metrics(const std::map<std::string, std::pair<double, double>>& sums);

  // `sum`: 0-d tensor on any device, detached by this call; `count`: of what it sums.
  void Add(std::string_view name, const at::Tensor& sum, double count);
  // Adds all of `other`, with its names prefixed.
  void Add(std::string_view prefix, const Metrics& other);
  // Sum and count of each name, by one copy from the device.
  std::map<std::string, std::pair<double, double>> Sums() const;
  // sum / count of each name.
  std::map<std::string, double> Means() const;
  void Clear() { sums_.clear(); }
  bool empty() const { return sums_.empty(); }

 private:
  struct Sum {
    at::Tensor sum;  // 0-d double
    double count = 0;
  };
  std::map<std::string, Sum> sums_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_METRICS_H_
