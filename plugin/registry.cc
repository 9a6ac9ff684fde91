#include "plugin/registry.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"

namespace graticule {
namespace {

struct Entry {
  PluginInfo info;
  internal::AnyFactory factory;
};

// Never destroyed: registrations of other files may outlive a static object.
struct Plugins {
  absl::Mutex mutex;
  std::map<std::pair<std::string, std::string>, Entry> entries ABSL_GUARDED_BY(mutex);

  static Plugins& Get() {
    static auto* plugins = new Plugins;
    return *plugins;
  }
};

}  // namespace

namespace internal {

void RegisterPlugin(PluginInfo info, AnyFactory factory) {
  Plugins& plugins = Plugins::Get();
  absl::MutexLock lock(&plugins.mutex);
  const std::pair<std::string, std::string> key(info.kind, info.name);
  if (const auto found = plugins.entries.find(key); found != plugins.entries.end()) {
    // Before main(), so glog may not be ready yet.
    std::fprintf(stderr, "%s '%s' is registered twice: in %s and in %s\n", info.kind.c_str(), info.name.c_str(),
                 found->second.info.file.c_str(), info.file.c_str());
    std::abort();
  }
  plugins.entries.emplace(key, Entry{std::move(info), std::move(factory)});
}

void UnregisterPlugin(const std::string& kind, const std::string& name) {
  Plugins& plugins = Plugins::Get();
  absl::MutexLock lock(&plugins.mutex);
  plugins.entries.erase({kind, name});
}

absl::StatusOr<AnyFactory> FindFactory(const std::string& kind, const google::protobuf::Any& config) {
  const std::string name = AnyTypeName(config);
  RETURN_IF_ERROR(CheckPluginType(kind, name));
  Plugins& plugins = Plugins::Get();
  absl::MutexLock lock(&plugins.mutex);
  return plugins.entries.at({kind, name}).factory;
}

}  // namespace internal

std::vector<PluginInfo> RegisteredPlugins(std::string_view kind) {
  Plugins& plugins = Plugins::Get();
  absl::MutexLock lock(&plugins.mutex);
  std::vector<PluginInfo> infos;
  for (const auto& [key, entry] : plugins.entries) {
    if (kind.empty() || key.first == kind) infos.push_back(entry.info);
  }
  return infos;
}

std::string AnyTypeName(const google::protobuf::Any& any) {
  const std::string& url = any.type_url();
  const size_t slash = url.rfind('/');
  return slash == std::string::npos ? url : url.substr(slash + 1);
}

absl::Status CheckPluginType(std::string_view kind, std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError(absl::StrCat("no ", std::string(kind), " is chosen"));
  std::vector<std::string> of_kind;
  std::string other_kind;
  for (const PluginInfo& info : RegisteredPlugins()) {
    if (info.kind == kind) {
      if (info.name == name) return absl::OkStatus();
      of_kind.push_back(info.name);
    } else if (info.name == name) {
      other_kind = info.kind;
    }
  }
  const std::string registered = of_kind.empty() ? "none" : absl::StrJoin(of_kind, ", ");
  if (!other_kind.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("'", std::string(name), "' is a plugin of kind ", other_kind,
                                                   ", not ", std::string(kind), ". Registered: ", registered));
  }
  std::string hint = DidYouMean(name, of_kind);
  return absl::NotFoundError(absl::StrCat("unknown ", std::string(kind), " '", std::string(name), "'", hint,
                                          hint.empty() ? ". Registered: " : " Registered: ", registered,
                                          "; a plugin of your own goes into the deps of your binary"));
}

}  // namespace graticule
