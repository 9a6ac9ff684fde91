#include "labels/drloc/drloc.h"

#include <algorithm>
#include <utility>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/cross_entropy_loss.h"
#include "ATen/ops/l1_loss.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/relu.h"
#include "ATen/ops/softmax.h"
#include "ATen/ops/stack.h"
#include "absl/strings/str_cat.h"
#include "labels/cells.h"
#include "labels/checks.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

Drloc WithDefaults(const Drloc& given) {
  Drloc config;
  config.set_pairs_per_image(64);
  config.MergeFrom(given);
  if (config.hidden_dim() == 0) config.set_hidden_dim(512);
  return config;
}

// logits [P,R], target [P] int64.
at::Tensor CycleBackRegression(const at::Tensor& logits, const at::Tensor& target) {
  const at::Tensor distances = at::arange(logits.size(1), logits.options());
  const at::Tensor shares = at::softmax(logits, 1);
  const at::Tensor mean = (shares * distances).sum(1);
  const at::Tensor variance = (shares * (distances - mean.unsqueeze(1)).square()).sum(1) + 1e-8;
  return ((mean - target).square() / variance + variance.log() * 0.001).mean();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Objective>> DrlocObjective::Create(const Drloc& given, const ObjectiveContext& context) {
  const Drloc config = WithDefaults(given);
  FieldErrors errors;
  constexpr int kMostPairs = 10'000;
  if (config.pairs_per_image() < 1 || config.pairs_per_image() > kMostPairs) {
    errors.Add("pairs_per_image", absl::StrCat("must be from 1 to ", kMostPairs, ", found ", config.pairs_per_image()));
  }
  if (config.normalize() && config.loss() != Drloc::L1) {
    errors.Add("normalize", "is true, but distances are classes unless `loss` is L1");
  }
  CheckLayerWidth(errors, "hidden_dim", config.hidden_dim());
  if (!errors.empty()) return errors.ToStatus();
  return std::unique_ptr<Objective>(new DrlocObjective(config, context));
}

DrlocObjective::DrlocObjective(const Drloc& config, const ObjectiveContext& context)
    : config_(config),
      distances_(config.signed_distances() ? Size2d{2 * context.grid.height - 1, 2 * context.grid.width - 1}
                                           : context.grid),
      fc1_(2 * context.width, config.hidden_dim()),
      fc2_(config.hidden_dim(), config.hidden_dim()) {
  RegisterModule("fc1", &fc1_);
  RegisterModule("fc2", &fc2_);
  const auto add = [this](const char* name, int64_t out) {
    auto layer = std::make_unique<Linear>(config_.hidden_dim(), out);
    RegisterModule(name, layer.get());
    return layer;
  };
  if (config.loss() == Drloc::L1) {
    head_ = add("head", 2);
  } else {
    fc3_ = add("fc3", config.hidden_dim());
    head_rows_ = add("head_rows", distances_.height);
    head_columns_ = add("head_columns", distances_.width);
  }
}

at::Tensor DrlocObjective::Head(const at::Tensor& pairs) const {
  const at::Tensor hidden = at::relu(fc2_.Forward(at::relu(fc1_.Forward(pairs))));
  if (head_ != nullptr) return head_->Forward(hidden);
  const at::Tensor shared = fc3_->Forward(hidden);
  return at::cat({head_rows_->Forward(shared), head_columns_->Forward(shared)}, -1);
}

ObjectiveOutput DrlocObjective::Forward(const ObjectiveInput& input) {
  const TokenMap& map = input.tokens;
  const at::Tensor patches = map.PatchTokens();
  const int64_t batch = patches.size(0), width = patches.size(2);
  const at::Tensor cells = CellsOf(map).expand({batch, -1});
  const auto choose = [&] { return at::randint(patches.size(1), {batch, config_.pairs_per_image()}, cells.options()); };
  const at::Tensor first = choose(), second = choose();  // [B,m]
  const auto tokens_of = [&](const at::Tensor& chosen) {
    return patches.gather(1, chosen.unsqueeze(2).expand({-1, -1, width}));
  };
  const at::Tensor said = Head(at::cat({tokens_of(first), tokens_of(second)}, 2)).flatten(0, 1).to(at::kFloat);

  const at::Tensor i = cells.gather(1, first).flatten(), j = cells.gather(1, second).flatten();  // [B·m]
  at::Tensor rows = i.div(map.grid.width, "floor") - j.div(map.grid.width, "floor");
  at::Tensor columns = i.remainder(map.grid.width) - j.remainder(map.grid.width);
  if (config_.signed_distances()) {
    rows = rows + (map.grid.height - 1);
    columns = columns + (map.grid.width - 1);
  } else {
    rows = rows.abs();
    columns = columns.abs();
  }

  ObjectiveOutput output;
  at::Tensor found;  // [B·m]
  if (config_.loss() == Drloc::L1) {
    // A grid of one row has no distances.
    const double row = config_.normalize() ? 1.0 / std::max<int64_t>(1, distances_.height - 1) : 1;
    const double column = config_.normalize() ? 1.0 / std::max<int64_t>(1, distances_.width - 1) : 1;
    const at::Tensor target = at::stack({rows * row, columns * column}, 1).to(at::kFloat);
    output.loss = at::l1_loss(said, target);
    const at::Tensor errors = (said.detach() - target).abs();
    found = errors.select(1, 0).lt(row / 2).logical_and(errors.select(1, 1).lt(column / 2));
  } else {
    const at::Tensor of_rows = said.narrow(1, 0, distances_.height);
    const at::Tensor of_columns = said.narrow(1, distances_.height, distances_.width);
    output.loss = config_.loss() == Drloc::CE
                      ? at::cross_entropy_loss(of_rows, rows) + at::cross_entropy_loss(of_columns, columns)
                      : CycleBackRegression(of_rows, rows) + CycleBackRegression(of_columns, columns);
    found = of_rows.argmax(1).eq(rows).logical_and(of_columns.argmax(1).eq(columns));
  }
  AddMetrics(output, batch, found.sum(), found.numel());
  return output;
}

at::Tensor DrlocObjective::Logits(const ObjectiveInput& input) {
  const at::Tensor patches = input.tokens.PatchTokens();
  const int64_t tokens = patches.size(1);
  const at::Tensor first = patches.unsqueeze(2).expand({-1, -1, tokens, -1});
  const at::Tensor second = patches.unsqueeze(1).expand({-1, tokens, -1, -1});
  return Head(at::cat({first, second}, 3).flatten(1, 2));
}

std::vector<WeightLayout> DrlocObjective::Layouts() const {
  const auto under = [](const std::string& prefix) {
    return [prefix](const std::string& ours) {
      const std::pair<const char*, const char*> names[] = {
          {"fc1.", "layers.0."}, {"fc2.", "layers.2."},         {"head.", "layers.4."},
          {"fc3.", "layers.4."}, {"head_rows.", "unshared.0."}, {"head_columns.", "unshared.1."}};
      for (const auto& [name, there] : names) {
        if (ours.starts_with(name)) return prefix + there + ours.substr(std::string(name).size());
      }
      return std::string();
    };
  };
  return {{.name = "yhlleo/VTs-Drloc", .name_there = under("drloc.")},
          {.name = "yhlleo/VTs-Drloc, a list of heads", .name_there = under("drloc.0.")}};
}

namespace {
const Registration<Objective, Drloc> kRegistration(
    "Dense relative localization: random pairs of patch tokens say how far their patches lie apart", "",
    &DrlocObjective::Create);
}  // namespace

}  // namespace graticule
