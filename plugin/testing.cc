#include "plugin/testing.h"

#include "plugin/status.h"

namespace graticule {

std::map<std::string, std::string> Errors(const absl::Status& status) {
  std::map<std::string, std::string> errors;
  for (const FieldError& error : FieldErrors::FromStatus(status)) errors[error.path] = error.message;
  return errors;
}

std::set<std::string> ErrorPaths(const absl::Status& status) {
  std::set<std::string> paths;
  for (const auto& [path, message] : Errors(status)) paths.insert(path);
  return paths;
}

}  // namespace graticule
