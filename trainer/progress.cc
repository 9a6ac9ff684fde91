#include "trainer/progress.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "c10/core/CachingDeviceAllocator.h"

namespace graticule {
namespace {

int CountColumns(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

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

int64_t PeakMemory(c10::Device device) {
  if (device.is_cpu()) return PeakMemory();
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  return allocator->initialized() ? allocator->getDeviceStats(device.index()).reserved_bytes[kAll].peak : 0;
}

std::string FormatProgress(const Progress& progress, int columns) {
  const auto value = [&](const std::string& name) {
    const auto found = progress.values.find(name);
    return found == progress.values.end() ? std::nan("") : found->second;
  };
  // The need of each part, and its text. What is needed least is left out first; of equals the last.
  std::vector<std::pair<int, std::string>> parts;
  const auto add = [&](int need, std::string text) { parts.emplace_back(need, std::move(text)); };
  add(9, absl::StrCat("step ", WithThousands(progress.step), "/", WithThousands(progress.total_steps)));
  add(1, absl::StrFormat("epoch %.1f/%d", progress.epoch, progress.epochs));
  if (!std::isnan(value("train/loss"))) add(8, absl::StrFormat("loss %.4g", value("train/loss")));
  for (const auto& [name, loss] : progress.values) {
    const std::vector<std::string> levels = absl::StrSplit(name, '/');
    if (levels.size() != 3 || levels[0] != "train" || levels[2] != "loss") continue;
    std::string part = absl::StrFormat("%s %.3g", levels[1], loss);
    const double accuracy = value("train/" + levels[1] + "/accuracy");
    if (!std::isnan(accuracy)) absl::StrAppendFormat(&part, " (%.1f %%)", accuracy);
    add(5, part);
  }
  if (!std::isnan(value("val/top1"))) add(6, absl::StrFormat("top-1 %.2f %%", value("val/top1")));
  add(2, absl::StrFormat("lr %.1e", value("lr")));
  if (!std::isnan(value("grad_norm"))) add(3, absl::StrFormat("grad %.3g", value("grad_norm")));
  if (const double scale = value("loss_scale"); !std::isnan(scale)) {
    add(1, absl::StrCat("scale ", scale < 1 ? absl::StrFormat("%g", scale) : WithThousands(std::llround(scale))));
  }
  if (value("skipped_steps") > 0) add(4, absl::StrFormat("%.0f skipped", value("skipped_steps")));
  add(4, absl::StrCat(WithThousands(std::llround(progress.images_per_second)), " img/s"));
  add(2, absl::StrFormat("data %.0f %%", 100 * progress.data_wait));
  add(1, absl::StrFormat("%.1f GB", progress.memory / 1e9));
  add(7, FormatSeconds(progress.seconds_left) + " left");

  while (true) {
    const std::string line =
        absl::StrJoin(parts, " · ", [](std::string* out, const auto& part) { out->append(part.second); });
    if (columns <= 0 || CountColumns(line) <= columns || parts.size() == 1) return line;
    const auto least =
        std::min_element(parts.rbegin(), parts.rend(), [](const auto& a, const auto& b) { return a.first < b.first; });
    parts.erase(least.base() - 1);
  }
}

}  // namespace graticule
