#include "nn/weights_file.h"

#include "absl/strings/str_cat.h"
#include "nn/torch_file.h"
#include "plugin/file.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<Safetensors> ReadWeightsFile(const std::string& path, bool ema) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(Safetensors contents, IsTorchFile(bytes) ? ParseTorchFile(bytes, ema) : ParseSafetensors(bytes),
                   absl::StrCat("'", path, "'"));
  return contents;
}

}  // namespace graticule
