#include "labels/absolute/absolute.h"

#include <memory>

#include "ATen/ops/cross_entropy_loss.h"
#include "ATen/ops/gelu.h"
#include "absl/strings/str_cat.h"
#include "labels/cells.h"
#include "labels/checks.h"
#include "labels/positional_label.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Objective>> AbsolutePositionalLabelObjective::Create(
    const AbsolutePositionalLabel& config, const ObjectiveContext& context) {
  FieldErrors errors;
  CheckLayerWidth(errors, "hidden_dim", config.hidden_dim());
  CheckLayerWidth(errors, "embed_dim", config.embed_dim());
  if (context.width % 4 != 0) {
    errors.Add(
        "", absl::StrCat("the head halves the tokens' width twice, so it must be a multiple of 4; the backbone's is ",
                         context.width));
  }
  if (!errors.empty()) return errors.ToStatus();
  const int64_t half = context.width / 2;
  return std::unique_ptr<Objective>(new AbsolutePositionalLabelObjective(
      half, config.hidden_dim() > 0 ? config.hidden_dim() : half,
      config.embed_dim() > 0 ? config.embed_dim() : half / 2, context.grid.area()));
}

AbsolutePositionalLabelObjective::AbsolutePositionalLabelObjective(int64_t half_width, int64_t hidden_dim,
                                                                   int64_t embed_dim, int64_t cells)
    : half_width_(half_width),
      fc1_(half_width, hidden_dim, /*bias=*/true, kPositionalLabelStd),
      fc2_(hidden_dim, embed_dim, /*bias=*/true, kPositionalLabelStd),
      head_(embed_dim, cells, /*bias=*/true, kPositionalLabelStd) {
  RegisterModule("fc1", &fc1_);
  RegisterModule("fc2", &fc2_);
  RegisterModule("head", &head_);
}

at::Tensor AbsolutePositionalLabelObjective::Logits(const ObjectiveInput& input) {
  const at::Tensor patches = input.tokens.PatchTokens();      // [B,N,D], or [B,V,D] of visible ones
  const at::Tensor half = patches.narrow(2, 0, half_width_);  // [B,N,D/2]
  return head_.Forward(fc2_.Forward(at::gelu(fc1_.Forward(half))));
}

ObjectiveOutput AbsolutePositionalLabelObjective::Forward(const ObjectiveInput& input) {
  const TokenMap& map = input.tokens;
  const at::Tensor logits = Logits(input).flatten(0, 1).to(at::kFloat);  // [B·N,N]
  const int64_t batch = map.tokens.size(0);
  const at::Tensor labels = CellsOf(map).expand({batch, -1}).reshape({-1});  // [B·N]

  ObjectiveOutput output;
  output.loss = at::cross_entropy_loss(logits, labels);
  AddMetrics(output, batch, logits.detach().argmax(1).eq(labels).sum(), labels.numel());
  return output;
}

std::vector<WeightLayout> AbsolutePositionalLabelObjective::Layouts() const { return {PositionalLabelLayout()}; }

namespace {
const Registration<Objective, AbsolutePositionalLabel> kRegistration(
    "Absolute positional label (APL): each patch token says which cell it came from", "",
    &AbsolutePositionalLabelObjective::Create);
}  // namespace

}  // namespace graticule
