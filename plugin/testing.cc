#include "plugin/testing.h"

#include "plugin/status.h"

namespace graticule {

std::map<std::string, std::string> Errors(const absl::Status& status) {
  std::map<std::string, std::string> errors;
  for (const FieldError& error : FieldErrors::FromStatus(status)) errors[error.path] = error.message;
  return errors;
}

std::vector<std::string> ErrorPaths(const absl::Status& status) {
  std::vector<std::string> paths;
  for (const FieldError& error : FieldErrors::FromStatus(status)) paths.push_back(error.path);
  return paths;
}

}  // namespace graticule
