#include "labels/relative/relative.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/add.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/gelu_backward.h"
#include "ATen/ops/index_select.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/mm.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "labels/cells.h"
#include "labels/checks.h"
#include "labels/positional_label.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int64_t kPairsPerImage = 2401;

// The pairs that a step looks at.
struct Pairs {
  at::Tensor first, second;  // [B,P] int64: i and j as rows of the batch's tokens [B·N,…]; undefined: all pairs, P = N²
  at::Tensor labels;         // [B,P] int64
};

Pairs MakePairs(const TokenMap& map, int64_t pairs_per_image) {
  const at::Tensor cells = CellsOf(map);
  const int64_t batch = map.tokens.size(0), tokens = cells.size(1);
  // A label is the difference of a number of i's and one of j's, plus the label of equal cells.
  const int64_t columns = 2 * map.grid.width - 1;
  const int64_t equal = (map.grid.height - 1) * columns + map.grid.width - 1;
  const at::Tensor numbers = cells.div(map.grid.width, "floor") * columns + cells.remainder(map.grid.width);
  if (pairs_per_image == 0 || tokens * tokens <= pairs_per_image) {
    const at::Tensor labels = numbers.unsqueeze(2) - numbers.unsqueeze(1) + equal;
    return {.labels = labels.flatten(1).expand({batch, -1})};
  }
  const at::Tensor chosen = at::randint(tokens, {2, batch, pairs_per_image}, cells.options());
  const at::Tensor numbers_of_all = numbers.expand({batch, -1});
  const at::Tensor starts = at::arange(batch, cells.options()).mul_(tokens).unsqueeze(1);
  return {.first = chosen[0] + starts,
          .second = chosen[1] + starts,
          .labels = numbers_of_all.gather(1, chosen[0]) - numbers_of_all.gather(1, chosen[1]) + equal};
}

struct PairLoss {
  at::Tensor loss;   // 0-d, the mean cross-entropy over all pairs
  at::Tensor found;  // 0-d int64: how many labels have the greatest logit
};

// A pair's hidden layer and logits take a hundred times a token's memory. So they never exist for all pairs at once: a
// few images at a time go through the head, forward and at once backward, and what is kept is the gradient.
PairLoss ComputeLoss(const at::Tensor& first, const at::Tensor& second, const at::Tensor& weight,
                     const at::Tensor& bias, const Pairs& pairs) {
  const int64_t batch = first.size(0), tokens = first.size(1), hidden = first.size(2), count = pairs.labels.size(1);
  const at::TensorOptions floats = first.options().dtype(at::kFloat).requires_grad(false);
  at::Tensor first_gradient = at::zeros(first.sizes(), floats), second_gradient = at::zeros(first.sizes(), floats);
  at::Tensor weight_gradient = at::zeros(weight.sizes(), floats), bias_gradient = at::zeros(bias.sizes(), floats);
  PairLoss result{at::zeros({}, floats), at::zeros({}, floats.dtype(at::kLong))};
  {
    c10::NoGradGuard no_grad;
    const at::Tensor minus_one = at::zeros({1, 1}, floats).sub_(1);
    // On the CPU what its cache holds, elsewhere enough to be busy.
    const int64_t elements = first.is_cpu() ? 1 << 20 : 1 << 26;
    const int64_t widest = std::max(hidden, weight.size(0));
    const int64_t step = std::clamp<int64_t>(elements / (count * widest), 1, batch);
    // Made once: on the CPU, memory that is new costs more than what is computed in it.
    const auto make_buffer = [&] { return at::empty({step * count, hidden}, first.options().requires_grad(false)); };
    const at::Tensor sums_buffer = make_buffer(), activations_buffer = make_buffer(), gradient_buffer = make_buffer();
    for (int64_t begin = 0; begin < batch; begin += step) {
      const int64_t images = std::min(step, batch - begin);
      const auto slice = [&](const at::Tensor& x) { return x.narrow(0, begin, images); };
      const at::Tensor labels = slice(pairs.labels).flatten().unsqueeze(1);  // [pairs,1]
      at::Tensor sums = sums_buffer.narrow(0, 0, images * count);            // [pairs,hidden]
      at::Tensor activations = activations_buffer.narrow(0, 0, images * count);
      at::Tensor gradient = gradient_buffer.narrow(0, 0, images * count);
      const std::vector<int64_t> by_tokens = {images, tokens, tokens, hidden};
      at::Tensor i, j;
      if (pairs.first.defined()) {
        i = slice(pairs.first).flatten();
        j = slice(pairs.second).flatten();
        at::index_select_out(sums, first.flatten(0, 1), 0, i);
        sums.add_(at::index_select_out(activations, second.flatten(0, 1), 0, j));
      } else {
        at::Tensor out = sums.view(by_tokens);
        at::add_out(out, slice(first).unsqueeze(2), slice(second).unsqueeze(1));
      }
      at::gelu_out(activations, sums);
      const at::Tensor logits = at::linear(activations, weight, bias).to(at::kFloat);
      result.found += std::get<1>(logits.max(1, /*keepdim=*/true)).eq(labels).sum();
      at::Tensor log_probabilities = at::log_softmax(logits, 1);
      result.loss -= log_probabilities.gather(1, labels).sum();

      // Of the sum over the pairs: the softmax, less 1 at the label.
      const at::Tensor logits_gradient = log_probabilities.exp_().scatter_add_(1, labels, minus_one.expand_as(labels));
      bias_gradient += logits_gradient.sum(0);
      const at::Tensor lowered = logits_gradient.to(activations.scalar_type());
      weight_gradient += at::mm(lowered.t(), activations);
      at::mm_out(gradient, lowered, weight);
      at::gelu_backward_out(gradient, gradient, sums);
      if (pairs.first.defined()) {
        first_gradient.view({-1, hidden}).index_add_(0, i, gradient.to(at::kFloat));
        second_gradient.view({-1, hidden}).index_add_(0, j, gradient.to(at::kFloat));
      } else {
        slice(first_gradient).copy_(gradient.view(by_tokens).sum(2));
        slice(second_gradient).copy_(gradient.view(by_tokens).sum(1));
      }
    }
  }
  const double scale = 1.0 / static_cast<double>(batch * count);
  result.loss = result.loss * scale;
  // Adds nothing to the value, and to each gradient what was computed.
  for (const auto& [x, gradient] : {std::tie(first, first_gradient), std::tie(second, second_gradient),
                                    std::tie(weight, weight_gradient), std::tie(bias, bias_gradient)}) {
    const at::Tensor product = (x * (gradient * scale)).sum();
    result.loss = result.loss + (product - product.detach());
  }
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Objective>> RelativePositionalLabelObjective::Create(
    const RelativePositionalLabel& config, const ObjectiveContext& context) {
  FieldErrors errors;
  CheckLayerWidth(errors, "hidden_dim", config.hidden_dim());
  CheckLayerWidth(errors, "embed_dim", config.embed_dim());
  constexpr int kMostPairs = 100'000;
  if (config.pairs_per_image() < 0 || config.pairs_per_image() > kMostPairs) {
    errors.Add("pairs_per_image", absl::StrCat("must be from 1 to ", kMostPairs, ", or 0 for all pairs, found ",
                                               config.pairs_per_image()));
  }
  if (context.width % 2 != 0) {
    errors.Add(
        "", absl::StrCat("the head halves the tokens' width, so it must be even; the backbone's is ", context.width));
  }
  if (!errors.empty()) return errors.ToStatus();
  const int64_t half = context.width / 2;
  return std::unique_ptr<Objective>(new RelativePositionalLabelObjective(
      context.width, config.hidden_dim() > 0 ? config.hidden_dim() : half,
      config.embed_dim() > 0 ? config.embed_dim() : half, (2 * context.grid.height - 1) * (2 * context.grid.width - 1),
      config.has_pairs_per_image() ? config.pairs_per_image() : kPairsPerImage));
}

RelativePositionalLabelObjective::RelativePositionalLabelObjective(int64_t width, int64_t hidden_dim, int64_t embed_dim,
                                                                   int64_t classes, int64_t pairs_per_image)
    : half_width_(width / 2), pairs_per_image_(pairs_per_image) {
  const auto add = [this](const std::string& name, int64_t in, int64_t out, at::Tensor& weight, at::Tensor& bias) {
    weight = RegisterParameter(name + ".weight", init::TruncNormal(NewParameter({out, in}), kPositionalLabelStd));
    bias = RegisterParameter(name + ".bias", init::Zeros(NewParameter({out})));
  };
  add("fc1", width, hidden_dim, fc1_weight_, fc1_bias_);
  add("fc2", hidden_dim, embed_dim, fc2_weight_, fc2_bias_);
  add("head", embed_dim, classes, head_weight_, head_bias_);
}

RelativePositionalLabelObjective::Factors RelativePositionalLabelObjective::Factor(const at::Tensor& patches) const {
  const auto half = [&](int64_t start, const at::Tensor& bias) {
    return at::linear(patches.narrow(2, start, half_width_), fc1_weight_.narrow(1, start, half_width_), bias);
  };
  return {.first = half(0, {}),
          .second = half(half_width_, fc1_bias_),
          .weight = head_weight_.matmul(fc2_weight_),
          .bias = head_weight_.mv(fc2_bias_) + head_bias_};
}

ObjectiveOutput RelativePositionalLabelObjective::Forward(const ObjectiveInput& input) {
  const TokenMap& map = input.tokens;
  CHECK_EQ((2 * map.grid.height - 1) * (2 * map.grid.width - 1), head_bias_.size(0)) << "a head of another grid";
  const Factors head = Factor(map.PatchTokens());
  const Pairs pairs = MakePairs(map, pairs_per_image_);
  const PairLoss result = ComputeLoss(head.first, head.second, head.weight, head.bias, pairs);

  ObjectiveOutput output{.loss = result.loss};
  AddMetrics(output, map.tokens.size(0), result.found, pairs.labels.numel());
  return output;
}

at::Tensor RelativePositionalLabelObjective::Logits(const ObjectiveInput& input) {
  const Factors head = Factor(input.tokens.PatchTokens());
  const at::Tensor sums = head.first.unsqueeze(2) + head.second.unsqueeze(1);  // [B,N,N,hidden]
  return at::linear(at::gelu(sums), head.weight, head.bias).flatten(1, 2);
}

std::vector<WeightLayout> RelativePositionalLabelObjective::Layouts() const { return {PositionalLabelLayout()}; }

namespace {
const Registration<Objective, RelativePositionalLabel> kRegistration(
    "Relative positional label (RPL): each pair of patch tokens says how far its patches lie apart", "",
    &RelativePositionalLabelObjective::Create);
}  // namespace

}  // namespace graticule
