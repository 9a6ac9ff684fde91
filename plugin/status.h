// Errors that a user, a file or a disk can cause travel as absl::Status; these helpers let context grow outwards.
#ifndef GRATICULE_PLUGIN_STATUS_H_
#define GRATICULE_PLUGIN_STATUS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace graticule {

// The same code and payloads, with "context: " before the message. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

// One mistake in a config message.
struct FieldError {
  // Path of the field inside the config that the plugin was given, for example "patch_size" or
  // "stages[2].width"; empty means the config as a whole.
  std::string path;
  std::string message;
};

// Collects all mistakes of a config before a factory returns, so that the user sees them together:
//   FieldErrors errors;
//   if (config.depth() <= 0) errors.Add("depth", absl::StrCat("must be positive, found ", config.depth()));
//   if (!errors.empty()) return errors.ToStatus();
// Whoever read the spec adds file, line and column to each (trainer/spec).
class FieldErrors {
 public:
  void Add(std::string_view path, std::string_view message);
  // Takes over the errors of a nested config under `prefix`; a status without fields becomes one error at `prefix`.
  void Add(std::string_view prefix, const absl::Status& status);

  bool empty() const { return errors_.empty(); }
  const std::vector<FieldError>& errors() const { return errors_; }
  // OK where there are none, else InvalidArgument that carries every error.
  absl::Status ToStatus() const;
  // The errors that a status carries; one without a path for a status that carries none, none for OK.
  static std::vector<FieldError> FromStatus(const absl::Status& status);

 private:
  std::vector<FieldError> errors_;
};

// "a.b" + "c" = "a.b.c"; an index sticks to its field: "a" + "[2]" = "a[2]".
std::string JoinPath(std::string_view prefix, std::string_view path);

// The candidate nearest to `wanted` in edit distance, if near enough to be a slip of the pen, else empty.
std::string ClosestName(std::string_view wanted, const std::vector<std::string>& candidates);

// "; did you mean 'X'?" or nothing.
std::string DidYouMean(std::string_view wanted, const std::vector<std::string>& candidates);

// "a, b, c and 5 more": as much of a list as a message can take.
std::string FirstFew(const std::vector<std::string>& all);

// Called in a catch block: what LibTorch or the standard library threw, as a Status that names `what`. Used where code
// that may throw borders on ours: a plugin's factory, a training or evaluation step, a thread of the loader.
absl::Status CurrentExceptionToStatus(std::string_view what);

}  // namespace graticule

#define GRATICULE_CONCAT_(a, b) a##b
#define GRATICULE_CONCAT(a, b) GRATICULE_CONCAT_(a, b)

// Returns from the enclosing function with the status, unless it is OK. A second argument is context:
//   RETURN_IF_ERROR(Open(path), absl::StrCat("dataset ", name));
#define RETURN_IF_ERROR(expression, ...)                                                                  \
  do {                                                                                                    \
    absl::Status graticule_status_ = (expression);                                                        \
    if (!graticule_status_.ok()) {                                                                        \
      return graticule_status_ __VA_OPT__(.ok() ? graticule_status_                                       \
                                                : ::graticule::Annotate(graticule_status_, __VA_ARGS__)); \
    }                                                                                                     \
  } while (false)

//   ASSIGN_OR_RETURN(auto file, Open(path), "context");
#define ASSIGN_OR_RETURN(declaration, expression, ...) \
  GRATICULE_ASSIGN_OR_RETURN_(GRATICULE_CONCAT(graticule_or_, __COUNTER__), declaration, expression, ##__VA_ARGS__)
#define GRATICULE_ASSIGN_OR_RETURN_(or_, declaration, expression, ...)                                       \
  auto or_ = (expression);                                                                                   \
  if (!or_.ok()) {                                                                                           \
    return or_.status() __VA_OPT__(.ok() ? or_.status() : ::graticule::Annotate(or_.status(), __VA_ARGS__)); \
  }                                                                                                          \
  declaration = std::move(or_).value()

#endif  // GRATICULE_PLUGIN_STATUS_H_
