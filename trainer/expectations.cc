#include "trainer/expectations.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// "expected val/top1 ≥ 98"
std::string Bounds(const Expected& expected) {
  std::string bounds = "expected " + expected.metric();
  if (expected.has_min()) bounds += absl::StrCat(" ≥ ", expected.min());
  if (expected.has_max()) bounds += absl::StrCat(" ≤ ", expected.max());
  return bounds;
}

std::string NoSuchMetric(const Expected& expected, const std::map<std::string, double>& metrics) {
  std::vector<std::string> names;
  for (const auto& [name, value] : metrics) names.push_back(name);
  return absl::StrCat(Bounds(expected), ": there is no such metric", DidYouMean(expected.metric(), names));
}

}  // namespace

std::vector<Expectation> CheckExpectations(const Experiment& experiment, const std::map<std::string, double>& metrics) {
  std::vector<Expectation> result;
  for (const Expected& expected : experiment.expected()) {
    const auto found = metrics.find(expected.metric());
    if (found == metrics.end()) {
      result.push_back({NoSuchMetric(expected, metrics), false});
      continue;
    }
    const bool holds = (!expected.has_min() || found->second >= expected.min()) &&
                       (!expected.has_max() || found->second <= expected.max());
    result.push_back(
        {absl::StrFormat("%s: %.4g, %s", Bounds(expected), found->second, holds ? "holds" : "missed"), holds});
  }
  return result;
}

std::vector<std::string> UnknownMetrics(const Experiment& experiment, const std::map<std::string, double>& known) {
  std::vector<std::string> lines;
  for (const Expected& expected : experiment.expected()) {
    if (!known.contains(expected.metric())) lines.push_back(NoSuchMetric(expected, known));
  }
  return lines;
}

}  // namespace graticule
