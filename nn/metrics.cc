#include "nn/metrics.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/scalar_tensor.h"
#include "ATen/ops/stack.h"

namespace graticule {

Metrics::Metrics(const std::map<std::string, std::pair<double, double>>& sums) {
  for (const auto& [name, sum] : sums) sums_[name] = {at::scalar_tensor(sum.first, at::kDouble), sum.second};
}

void Metrics::Add(std::string_view name, const at::Tensor& sum, double count) {
  Sum& entry = sums_[std::string(name)];
  const at::Tensor value = sum.detach().to(at::kDouble);
  entry.sum = entry.sum.defined() ? entry.sum.add(value) : value;
  entry.count += count;
}

void Metrics::Add(std::string_view prefix, const Metrics& other) {
  for (const auto& [name, sum] : other.sums_) Add(std::string(prefix) + name, sum.sum, sum.count);
}

std::map<std::string, std::pair<double, double>> Metrics::Sums() const {
  // What the host has measured itself lies beside what the device has.
  std::vector<at::Tensor> on_device;
  for (const auto& [name, sum] : sums_) {
    if (!sum.sum.is_cpu()) on_device.push_back(sum.sum);
  }
  const at::Tensor copies = on_device.empty() ? at::Tensor() : at::stack(on_device).cpu();
  std::map<std::string, std::pair<double, double>> sums;
  int64_t i = 0;
  for (const auto& [name, sum] : sums_) {
    sums[name] = {sum.sum.is_cpu() ? *sum.sum.const_data_ptr<double>() : copies.const_data_ptr<double>()[i++],
                  sum.count};
  }
  return sums;
}

std::map<std::string, double> Metrics::Means() const {
  std::map<std::string, double> means;
  for (const auto& [name, sum] : Sums()) means[name] = sum.first / sum.second;
  return means;
}

}  // namespace graticule
