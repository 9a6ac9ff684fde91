#include "backbones/backbone.h"

#include "absl/strings/str_cat.h"
#include "plugin/logging.h"

namespace graticule {

TokenMap Backbone::ForwardSelected(const at::Tensor&, const PatchSelection&) {
  LOG(FATAL) << TypeName() << " can't run on a selection of the patches";
}

absl::StatusOr<TimmModel> Backbone::Timm() const {
  return absl::UnimplementedError(absl::StrCat("timm has no ", TypeName()));
}

}  // namespace graticule
