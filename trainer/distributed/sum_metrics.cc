#include "trainer/distributed/sum_metrics.h"

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "nn/metrics.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "trainer/distributed/ranks.h"

namespace graticule {

absl::StatusOr<Metrics> SumMetrics(const Metrics& metrics, Ranks& ranks) {
  if (ranks.size() == 1) return metrics;
  // Each name, a line feed, the bytes of sum and count.
  std::string own;
  for (const auto& [name, sum] : metrics.Sums()) {
    const double numbers[2] = {sum.first, sum.second};
    own += name;
    own += '\n';
    own.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, ranks.GatherTexts(own));
  std::map<std::string, std::pair<double, double>> sums;
  for (const std::string& text : texts) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      double numbers[2];
      CHECK(end != std::string::npos && end + 1 + sizeof numbers <= text.size());
      std::memcpy(numbers, text.data() + end + 1, sizeof numbers);
      auto& [sum, count] = sums[text.substr(at, end - at)];
      sum += numbers[0];
      count += numbers[1];
      at = end + 1 + sizeof numbers;
    }
  }
  return Metrics(sums);
}

}  // namespace graticule
