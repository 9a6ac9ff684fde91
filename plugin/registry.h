// Plugins of one kind, keyed by the full name of their config message.
//
// A kind is an interface class with two members:
//   class Backbone {
//    public:
//     static constexpr char kKind[] = "backbone";
//     using Context = BackboneContext;  // what a factory is told besides its config
//   };
// A plugin registers by a constant at the end of its .cc:
//   const Registration<Backbone, Vit> kRegistration("Vision transformer (ViT, DeiT)", "depth: 2 width: 32",
//   &VitBackbone::Create);
#ifndef GRATICULE_PLUGIN_REGISTRY_H_
#define GRATICULE_PLUGIN_REGISTRY_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/message.h"
#include "plugin/status.h"

namespace graticule {

// What a plugin says of itself.
struct PluginInfo {
  std::string kind;     // "backbone"
  std::string name;     // full name of the config message, "graticule.Vit"
  std::string summary;  // one line
  // Text format of the smallest config that builds and runs (seconds, not minutes): `graticule list` shows it and the
  // conformance suites run it.
  std::string example;
  std::string file;  // where it is registered
};

// Type-erased side of the registry; Registry<T> below is the typed front.
namespace internal {

using AnyFactory = std::function<absl::StatusOr<std::shared_ptr<void>>(const google::protobuf::Any&, const void*)>;

// Fatal, naming both files, if the kind has a plugin of this name already. Runs before main().
void RegisterPlugin(PluginInfo info, AnyFactory factory);
void UnregisterPlugin(const std::string& kind, const std::string& name);
// NotFound with the registered names and the nearest one; says so if it is a plugin of another kind.
absl::StatusOr<AnyFactory> FindFactory(const std::string& kind, const google::protobuf::Any& config);

}  // namespace internal

// All plugins of a kind, or of all kinds if it is empty, ordered by kind and name.
std::vector<PluginInfo> RegisteredPlugins(std::string_view kind = "");

// "graticule.Vit" for "type.googleapis.com/graticule.Vit".
std::string AnyTypeName(const google::protobuf::Any& any);

// The error for a config type that is not registered for `kind`, or for none; OK if it is.
absl::Status CheckPluginType(std::string_view kind, std::string_view name);

template <typename T>
class Registry {
 public:
  // The config's plugin, built. What the factory throws comes back as a Status with the plugin's name.
  static absl::StatusOr<std::unique_ptr<T>> Create(const google::protobuf::Any& config,
                                                   const typename T::Context& context) {
    ASSIGN_OR_RETURN(const auto factory, internal::FindFactory(T::kKind, config));
    ASSIGN_OR_RETURN(std::shared_ptr<void> holder, factory(config, &context));
    return std::move(*static_cast<std::unique_ptr<T>*>(holder.get()));
  }

  // The same from a config message.
  static absl::StatusOr<std::unique_ptr<T>> Create(const google::protobuf::Message& config,
                                                   const typename T::Context& context) {
    google::protobuf::Any any;
    any.PackFrom(config);
    return Create(any, context);
  }
};

// Registers a plugin for as long as it lives: a constant for a plugin, a local variable in a test.
template <typename T, typename Config>
class Registration {
 public:
  using Factory = std::function<absl::StatusOr<std::unique_ptr<T>>(const Config&, const typename T::Context&)>;

  Registration(std::string_view summary, std::string_view example, Factory factory,
               const char* file = __builtin_FILE()) {
    const std::string name = Config::descriptor()->full_name();
    internal::RegisterPlugin(
        PluginInfo{T::kKind, name, std::string(summary), std::string(example), file},
        [factory, name](const google::protobuf::Any& any,
                        const void* context) -> absl::StatusOr<std::shared_ptr<void>> {
          Config config;
          if (!any.UnpackTo(&config)) return absl::InvalidArgumentError(absl::StrCat("unreadable config of ", name));
          try {
            ASSIGN_OR_RETURN(std::unique_ptr<T> plugin,
                             factory(config, *static_cast<const typename T::Context*>(context)));
            return std::static_pointer_cast<void>(std::make_shared<std::unique_ptr<T>>(std::move(plugin)));
          } catch (...) {
            return CurrentExceptionToStatus(name);
          }
        });
  }
  ~Registration() { internal::UnregisterPlugin(T::kKind, Config::descriptor()->full_name()); }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
};

}  // namespace graticule

#endif  // GRATICULE_PLUGIN_REGISTRY_H_
