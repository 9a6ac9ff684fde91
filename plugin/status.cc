#include "plugin/status.h"

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace graticule {
namespace {

constexpr char kPayload[] = "graticule.FieldErrors";
// Neither stands in a field path or in a message.
constexpr char kBetweenErrors = '\x1e';
constexpr char kAfterPath = '\x1f';

// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other, whatever the case.
size_t EditDistance(std::string_view a, std::string_view b) {
  const auto same = [&](size_t i, size_t j) { return absl::ascii_tolower(a[i]) == absl::ascii_tolower(b[j]); };
  std::vector<std::vector<size_t>> distance(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) distance[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) distance[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      distance[i][j] = std::min(
          {distance[i - 1][j] + 1, distance[i][j - 1] + 1, distance[i - 1][j - 1] + (same(i - 1, j - 1) ? 0 : 1)});
      if (i > 1 && j > 1 && same(i - 1, j - 2) && same(i - 2, j - 1)) {
        distance[i][j] = std::min(distance[i][j], distance[i - 2][j - 2] + 1);
      }
    }
  }
  return distance[a.size()][b.size()];
}

std::string_view AfterPackage(std::string_view name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(std::string(context), ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { annotated.SetPayload(url, payload); });
  return annotated;
}

void FieldErrors::Add(std::string_view path, std::string_view message) {
  errors_.push_back({std::string(path), std::string(message)});
}

void FieldErrors::Add(std::string_view prefix, const absl::Status& status) {
  for (const FieldError& error : FromStatus(status)) errors_.push_back({JoinPath(prefix, error.path), error.message});
}

absl::Status FieldErrors::ToStatus() const {
  if (errors_.empty()) return absl::OkStatus();
  std::vector<std::string> lines, records;
  for (const FieldError& error : errors_) {
    lines.push_back(error.path.empty() ? error.message : absl::StrCat(error.path, ": ", error.message));
    records.push_back(absl::StrCat(error.path, std::string(1, kAfterPath), error.message));
  }
  absl::Status status = absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
  status.SetPayload(kPayload, absl::Cord(absl::StrJoin(records, std::string(1, kBetweenErrors))));
  return status;
}

std::vector<FieldError> FieldErrors::FromStatus(const absl::Status& status) {
  if (status.ok()) return {};
  const auto payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return {{"", std::string(status.message())}};
  std::vector<FieldError> errors;
  const std::vector<std::string> records = absl::StrSplit(std::string(*payload), kBetweenErrors);
  for (const std::string& record : records) {
    const std::vector<std::string> parts = absl::StrSplit(record, absl::MaxSplits(kAfterPath, 1));
    errors.push_back({parts[0], parts[1]});
  }
  return errors;
}

std::string JoinPath(std::string_view prefix, std::string_view path) {
  if (prefix.empty()) return std::string(path);
  if (path.empty()) return std::string(prefix);
  const char* separator = path.front() == '[' ? "" : ".";
  return absl::StrCat(std::string(prefix), separator, std::string(path));
}

std::string ClosestName(std::string_view wanted, const std::vector<std::string>& candidates) {
  // A package in common does not make two names alike.
  const std::string_view word = AfterPackage(wanted);
  std::string best;
  size_t best_distance = std::max<size_t>(word.size() < 4 ? 1 : 2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    size_t distance = EditDistance(wanted, candidate);
    // "dim" is meant for "embed_dim" more often than its distance says.
    if (word.size() > 2 && distance > 1 && absl::StrContains(candidate, std::string(wanted))) distance = 1;
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view wanted, const std::vector<std::string>& candidates) {
  const std::string closest = ClosestName(wanted, candidates);
  return closest.empty() ? "" : absl::StrCat("; did you mean '", closest, "'?");
}

std::string FirstFew(const std::vector<std::string>& all) {
  const size_t shown = std::min<size_t>(all.size(), 3);
  std::string text = absl::StrJoin(all.begin(), all.begin() + shown, ", ");
  if (all.size() > shown) absl::StrAppend(&text, " and ", all.size() - shown, " more");
  return text;
}

absl::Status CurrentExceptionToStatus(std::string_view what) {
  try {
    throw;
  } catch (const std::exception& error) {
    // The what() of c10's errors goes on with a backtrace, which says nothing to a user.
    std::string message = error.what();
    for (const char* noise : {"\nException raised from", "\nC++ CapturedTraceback:", "\nframe #0"}) {
      if (const size_t at = message.find(noise); at != std::string::npos) message.resize(at);
    }
    return absl::InternalError(absl::StrCat(std::string(what), ": ", message));
  } catch (...) {
    return absl::InternalError(absl::StrCat(std::string(what), ": unknown exception"));
  }
}

}  // namespace graticule
