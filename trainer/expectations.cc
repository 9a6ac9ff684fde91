#include "trainer/expectations.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace graticule {

std::vector<Expectation> CheckExpectations(const Experiment& experiment, const std::map<std::string, double>& metrics) {
  std::vector<Expectation> result;
  for (const Expected& expected : experiment.expected()) {
    std::string bounds = "expected " + expected.metric();
    if (expected.has_min()) bounds += absl::StrCat(" ≥ ", expected.min());
    if (expected.has_max()) bounds += absl::StrCat(" ≤ ", expected.max());
    const auto found = metrics.find(expected.metric());
    if (found == metrics.end()) {
      result.push_back({bounds + ": there is no such metric", false});
      continue;
    }
    const bool holds = (!expected.has_min() || found->second >= expected.min()) &&
                       (!expected.has_max() || found->second <= expected.max());
    result.push_back({absl::StrFormat("%s: %.4g, %s", bounds, found->second, holds ? "holds" : "missed"), holds});
  }
  return result;
}

}  // namespace graticule
