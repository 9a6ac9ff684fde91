#include "nn/metrics.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/stack.h"

namespace graticule {

void Metrics::Add(std::string_view name, const at::Tensor& sum, double count) {
  Sum& entry = sums_[std::string(name)];
  const at::Tensor value = sum.detach().to(at::kDouble);
  entry.sum = entry.sum.defined() ? entry.sum.add(value) : value;
  entry.count += count;
}

void Metrics::Add(std::string_view prefix, const Metrics& other) {
  for (const auto& [name, sum] : other.sums_) Add(std::string(prefix) + name, sum.sum, sum.count);
}

std::map<std::string, double> Metrics::Means() const {
  if (sums_.empty()) return {};
  std::vector<at::Tensor> sums;
  for (const auto& [name, sum] : sums_) sums.push_back(sum.sum);
  const at::Tensor on_host = at::stack(sums).cpu();
  std::map<std::string, double> means;
  int64_t i = 0;
  for (const auto& [name, sum] : sums_) means[name] = on_host.data_ptr<double>()[i++] / sum.count;
  return means;
}

}  // namespace graticule
