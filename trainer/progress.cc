#include "trainer/progress.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace graticule {

std::string WithThousands(int64_t number) {
  std::string digits = absl::StrCat(std::abs(number));
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return number < 0 ? "-" + digits : digits;
}

std::string FormatSeconds(double seconds) {
  const int64_t whole = std::max<int64_t>(0, std::llround(seconds));
  if (whole >= 3600) return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60);
  return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
}

int64_t PeakMemory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

std::string FormatProgress(const Progress& progress) {
  const auto value = [&](const std::string& name) {
    const auto found = progress.values.find(name);
    return found == progress.values.end() ? std::nan("") : found->second;
  };
  std::vector<std::string> parts = {
      absl::StrCat("step ", WithThousands(progress.step), "/", WithThousands(progress.total_steps)),
      absl::StrFormat("epoch %.1f/%d", progress.epoch, progress.epochs),
      absl::StrFormat("loss %.4g", value("train/loss"))};
  for (const auto& [name, loss] : progress.values) {
    const std::vector<std::string> levels = absl::StrSplit(name, '/');
    if (levels.size() != 3 || levels[0] != "train" || levels[2] != "loss") continue;
    std::string part = absl::StrFormat("%s %.3g", levels[1], loss);
    const double accuracy = value("train/" + levels[1] + "/accuracy");
    if (!std::isnan(accuracy)) absl::StrAppendFormat(&part, " (%.1f %%)", accuracy);
    parts.push_back(part);
  }
  if (!std::isnan(value("val/top1"))) parts.push_back(absl::StrFormat("top-1 %.2f %%", value("val/top1")));
  if (!std::isnan(value("grad_norm"))) parts.push_back(absl::StrFormat("grad %.3g", value("grad_norm")));
  parts.push_back(absl::StrFormat("lr %.1e", value("lr")));
  parts.push_back(absl::StrCat(WithThousands(std::llround(progress.images_per_second)), " img/s"));
  parts.push_back(absl::StrFormat("data %.0f %%", 100 * progress.data_wait));
  parts.push_back(absl::StrFormat("%.1f GB", PeakMemory() / 1e9));
  parts.push_back(FormatSeconds(progress.seconds_left) + " left");
  return absl::StrJoin(parts, " · ");
}

}  // namespace graticule
