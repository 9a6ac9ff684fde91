#include "trainer/run_summary.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "plugin/file.h"
#include "plugin/version.h"
#include "torch/headeronly/version.h"
#include "trainer/stop_signal.h"

namespace graticule {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kCompleted[] = "completed";

std::string FormatTime(double seconds) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::UnixEpoch() + absl::Seconds(seconds), absl::UTCTimeZone());
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

}  // namespace

std::string ExitReason(const absl::Status& status, int signal) {
  if (!status.ok()) return absl::StrCat("error: ", status.message());
  return signal == 0 ? kCompleted : "stopped by " + SignalName(signal);
}

absl::Status WriteRunSummary(const RunSummary& summary, const std::string& run_directory) {
  Json json;
  json["name"] = summary.name;
  json["exit_reason"] = summary.exit_reason;
  json["step"] = summary.step;
  json["total_steps"] = summary.total_steps;
  json["resumed_at"] = summary.resumed_at;
  json["epoch"] = summary.epoch;
  json["images_seen"] = summary.images_seen;
  json["skipped_steps"] = summary.skipped_steps;
  if (summary.best) {
    json["best"] = {{"metric", summary.best->metric}, {"value", summary.best->value}, {"step", summary.best->step}};
  }
  json["last"] = Json::object();
  for (const auto& [name, value] : summary.last) json["last"][name] = value;
  json["start_time"] = FormatTime(summary.start_time);
  json["end_time"] = FormatTime(summary.end_time);
  json["seconds"] = summary.end_time - summary.start_time;
  json["run_seconds"] = summary.run_seconds;
  json["graticule_version"] = kVersion;
  if (const char* revision = std::getenv("GRATICULE_REVISION"); revision != nullptr && *revision != '\0') {
    json["git_revision"] = revision;
  }
  json["torch_version"] = TORCH_VERSION;
  json["host"] = HostName();
  json["device"] = summary.device;
  json["threads"] = summary.threads;
  json["world_size"] = summary.world_size;
  json["peak_memory"] = summary.peak_memory;
  // An error's text may hold a file's bytes.
  return WriteFileAtomically(run_directory + "/run.json",
                             json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n");
}

bool IsCompleted(const std::string& run_directory) {
  const absl::StatusOr<std::string> text = ReadFile(run_directory + "/run.json");
  if (!text.ok()) return false;
  const Json json = Json::parse(*text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.value("exit_reason", Json()) == kCompleted;
}

}  // namespace graticule
