#include "labels/jigsaw/jigsaw.h"

#include <algorithm>
#include <cmath>

#include "ATen/ops/arange.h"
#include "ATen/ops/cross_entropy_loss.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/relu.h"
#include "absl/strings/str_cat.h"
#include "plugin/registry.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Objective>> JigsawObjective::Create(const Jigsaw& config,
                                                                   const ObjectiveContext& context) {
  FieldErrors errors;
  const double mask_ratio = config.has_mask_ratio() ? config.mask_ratio() : 0.5;
  if (!(mask_ratio >= 0 && mask_ratio < 1)) {
    errors.Add("mask_ratio", absl::StrCat("must be in [0, 1), found ", mask_ratio));
  }
  if (!context.can_select) {
    errors.Add("", "needs a second pass over some of the patches, and this backbone can't run on a selection of them");
  }
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Objective>(new JigsawObjective(mask_ratio, context));
}

JigsawObjective::JigsawObjective(double mask_ratio, const ObjectiveContext& context)
    : mask_ratio_(mask_ratio),
      fc1_(context.width, context.width),
      fc2_(context.width, context.width),
      head_(context.width, context.grid.area()) {
  RegisterModule("fc1", &fc1_);
  RegisterModule("fc2", &fc2_);
  RegisterModule("head", &head_);
  // The authors' code leaves the head as PyTorch makes it.
  const double bound = 1 / std::sqrt(context.width);
  for (const NamedParameter& parameter : Parameters()) init::Uniform(parameter.tensor, -bound, bound);
}

at::Tensor JigsawObjective::Solve(const ObjectiveInput& input, const at::Tensor& kept) const {
  const TokenMap again = input.pass_again({.kept = kept, .position = false});
  return head_.Forward(at::relu(fc2_.Forward(at::relu(fc1_.Forward(again.PatchTokens())))));
}

ObjectiveOutput JigsawObjective::Forward(const ObjectiveInput& input) {
  const int64_t batch = input.tokens.tokens.size(0), cells = input.tokens.grid.area();
  const int64_t count = std::max<int64_t>(1, static_cast<int64_t>(cells * (1 - mask_ratio_)));
  const at::Tensor noise = at::rand({batch, cells}, input.tokens.tokens.options().dtype(at::kFloat));
  const at::Tensor kept = noise.argsort(int64_t{1}).narrow(1, 0, count);
  const at::Tensor logits = Solve(input, kept).flatten(0, 1).to(at::kFloat);
  const at::Tensor labels = kept.flatten();

  ObjectiveOutput output{.loss = at::cross_entropy_loss(logits, labels)};
  AddMetrics(output, batch, logits.detach().argmax(1).eq(labels).sum(), labels.numel());
  return output;
}

at::Tensor JigsawObjective::Logits(const ObjectiveInput& input) {
  const at::Tensor& tokens = input.tokens.tokens;
  const at::Tensor cells = at::arange(input.tokens.grid.area(), tokens.options().dtype(at::kLong));
  return Solve(input, cells.expand({tokens.size(0), -1}));
}

std::vector<WeightLayout> JigsawObjective::Layouts() const {
  const auto name_there = [](const std::string& ours) {
    const std::string layer = ours.substr(0, ours.find('.'));
    return absl::StrCat("jigsaw.", layer == "fc1" ? 0 : layer == "fc2" ? 2 : 4, ours.substr(layer.size()));
  };
  return {{.name = "yingyichen-cyy/JigsawViT", .name_there = name_there}};
}

namespace {
const Registration<Objective, Jigsaw> kRegistration(
    "Jigsaw-ViT: each token of a second pass, shuffled and without position, says which cell it came from", "",
    &JigsawObjective::Create);
}  // namespace

}  // namespace graticule
