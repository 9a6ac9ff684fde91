// What the tests of all kinds of plugins share.
#ifndef GRATICULE_PLUGIN_TESTING_H_
#define GRATICULE_PLUGIN_TESTING_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {

// The plugin of a config that has no mistakes.
template <typename T>
std::unique_ptr<T> BuildPlugin(const google::protobuf::Message& config, const typename T::Context& context = {}) {
  auto plugin = Registry<T>::Create(config, context);
  CHECK(plugin.ok()) << plugin.status();
  return *std::move(plugin);
}

// A status's field errors: their messages by path, and their paths in order.
std::map<std::string, std::string> Errors(const absl::Status& status);
std::vector<std::string> ErrorPaths(const absl::Status& status);

}  // namespace graticule

#endif  // GRATICULE_PLUGIN_TESTING_H_
