#include "data/datasets/web_dataset/shard_paths.h"

#include <glob.h>

#include <algorithm>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// Nobody has as many shards; a range that is mistyped has more.
constexpr int64_t kMaxPaths = 1'000'000;

absl::Status TooMany(const std::string& pattern) {
  return absl::InvalidArgumentError(absl::StrCat("'", pattern, "' means more than ", kMaxPaths, " files"));
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() <= 18 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

// What stands between two braces: the numbers of a range, or the parts of a list, whose braces are left as they are.
absl::StatusOr<std::vector<std::string>> Alternatives(const std::string& inside, const std::string& pattern) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : inside) {
    depth += (c == '{') - (c == '}');
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  if (parts.size() > 1) return parts;

  const size_t dots = inside.find("..");
  const std::string begin = inside.substr(0, dots), end = dots == std::string::npos ? "" : inside.substr(dots + 2);
  int64_t first = 0, last = 0;
  if (!IsNumber(begin) || !IsNumber(end) || !absl::SimpleAtoi(begin, &first) || !absl::SimpleAtoi(end, &last) ||
      last < first) {
    return absl::InvalidArgumentError(absl::StrCat("'", pattern, "': {", inside,
                                                   "} is neither a rising range such as {000..146} nor a list such as "
                                                   "{a,b}"));
  }
  if (last - first >= kMaxPaths) return TooMany(pattern);
  std::vector<std::string> numbers;
  const int width = begin.size() == end.size() ? static_cast<int>(begin.size()) : 0;
  for (int64_t i = first; i <= last; ++i) numbers.push_back(absl::StrFormat("%0*d", width, i));
  return numbers;
}

absl::Status ExpandBraces(const std::string& rest, const std::string& pattern, std::vector<std::string>& paths) {
  const size_t open = rest.find('{');
  if (open == std::string::npos) {
    if (static_cast<int64_t>(paths.size()) >= kMaxPaths) return TooMany(pattern);
    paths.push_back(rest);
    return absl::OkStatus();
  }
  size_t close = open;
  for (int depth = 1; depth > 0;) {
    if (++close >= rest.size()) return absl::InvalidArgumentError(absl::StrCat("'", pattern, "': a { is not closed"));
    depth += (rest[close] == '{') - (rest[close] == '}');
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> parts,
                   Alternatives(rest.substr(open + 1, close - open - 1), pattern));
  for (const std::string& part : parts) {
    RETURN_IF_ERROR(ExpandBraces(absl::StrCat(rest.substr(0, open), part, rest.substr(close + 1)), pattern, paths));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExpandShardPattern(const std::string& pattern) {
  std::vector<std::string> expanded;
  RETURN_IF_ERROR(ExpandBraces(pattern, pattern, expanded));
  std::vector<std::string> paths;
  for (const std::string& path : expanded) {
    if (path.find_first_of("*?[") == std::string::npos) {
      paths.push_back(path);
      continue;
    }
    glob_t found{};
    const int result = glob(path.c_str(), GLOB_NOSORT, nullptr, &found);
    std::vector<std::string> matches(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    if (result != 0) return absl::NotFoundError(absl::StrCat("no file is called '", path, "'"));
    // glob() would sort as the user's language does.
    std::sort(matches.begin(), matches.end());
    paths.insert(paths.end(), matches.begin(), matches.end());
  }
  return paths;
}

}  // namespace graticule
