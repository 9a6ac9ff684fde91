#include "data/loader/free_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace graticule {
namespace {

using std::filesystem::path;

// The number that a file holds; nothing where there is none ("max").
std::optional<int64_t> Number(const path& file) {
  std::ifstream stream(file);
  int64_t number;
  return stream >> number ? std::optional(number) : std::nullopt;
}

// The number after a word, in a file of lines of a word and a number.
std::optional<int64_t> Field(const path& file, const std::string& name) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    std::string word;
    if (int64_t number; words >> word >> number && word == name) return number;
  }
  return std::nullopt;
}

// What the versions of control groups call things.
struct Version {
  const char* folder;
  const char* limit;
  const char* usage;
  const char* files;  // of memory.stat: pages of files that nobody has used of late, which are given up when needed
};
constexpr Version kSecond = {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
constexpr Version kFirst = {"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                            "total_inactive_file"};

// The least that a group and those around it leave.
std::optional<int64_t> LeftByGroups(const path& root, const Version& version, const path& group) {
  std::optional<int64_t> left;
  const path top = root / version.folder;
  for (path folder = top / group;; folder = folder.parent_path()) {
    const std::optional<int64_t> limit = Number(folder / version.limit), usage = Number(folder / version.usage);
    if (limit && usage) {
      const int64_t here = *limit - *usage + Field(folder / "memory.stat", version.files).value_or(0);
      left = std::min(left.value_or(here), here);
    }
    if (folder == top || folder == folder.parent_path()) return left;
  }
}

}  // namespace

int64_t FreeMemory(const path& root) {
  std::vector<std::optional<int64_t>> candidates;
  if (const std::optional<int64_t> kib = Field(root / "proc/meminfo", "MemAvailable:"))
    candidates.push_back(*kib << 10);
  // Lines of "number:controllers:/path"; the second version has no controllers.
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const path group = path(line.substr(second + 1)).relative_path();
    if (controllers == ",,") candidates.push_back(LeftByGroups(root, kSecond, group));
    if (controllers.find(",memory,") != std::string::npos) candidates.push_back(LeftByGroups(root, kFirst, group));
  }
  std::optional<int64_t> least;
  for (const std::optional<int64_t>& left : candidates) {
    if (left) least = std::min(least.value_or(*left), *left);
  }
  return std::max<int64_t>(least.value_or(0), 0);
}

}  // namespace graticule
