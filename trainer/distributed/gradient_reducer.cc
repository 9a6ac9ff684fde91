#include "trainer/distributed/gradient_reducer.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "torch/csrc/autograd/engine.h"
#include "torch/csrc/autograd/utils/lambda_post_hook.h"
#include "torch/csrc/autograd/variable.h"
#include "torch/csrc/distributed/c10d/ProcessGroup.hpp"
#include "torch/csrc/distributed/c10d/reducer.hpp"
#include "trainer/distributed/ranks.h"
#include "trainer/distributed/ranks_state.h"

namespace graticule {
namespace {

using Clock = std::chrono::steady_clock;

std::string Shape(const at::Tensor& tensor) {
  return absl::StrCat(c10::toString(tensor.scalar_type()), " [", absl::StrJoin(tensor.sizes(), ","), "]");
}

std::string RanksWith(const std::vector<std::string>& texts, const std::string& text) {
  std::vector<int> ranks;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i] == text) ranks.push_back(static_cast<int>(i));
  }
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

}  // namespace

absl::Status VerifyAndBroadcast(const std::vector<RankTensor>& tensors, Ranks& ranks) {
  if (ranks.size() == 1) return absl::OkStatus();
  const std::string list = absl::StrJoin(tensors, "\n", [](std::string* out, const RankTensor& tensor) {
    absl::StrAppend(out, tensor.name, " ", Shape(tensor.tensor));
  });
  ASSIGN_OR_RETURN(const std::vector<std::string> lists, ranks.GatherTexts(list));
  std::vector<std::vector<std::string>> lines;
  size_t longest = 0;
  for (const std::string& text : lists) {
    lines.push_back(absl::StrSplit(text, '\n'));
    longest = std::max(longest, lines.back().size());
  }
  for (size_t i = 0; i < longest; ++i) {
    std::vector<std::string> at;
    for (const auto& of_rank : lines) at.push_back(i < of_rank.size() ? of_rank[i] : "nothing");
    for (const std::string& other : at) {
      if (other == at[0]) continue;
      return absl::InvalidArgumentError(absl::StrCat("the ranks have different models: ", RanksWith(at, at[0]), " has ",
                                                     at[0], " where ", RanksWith(at, other), " has ", other));
    }
  }
  std::vector<at::Tensor> plain;
  for (const RankTensor& tensor : tensors) plain.push_back(tensor.tensor.detach());
  return ranks.Broadcast(plain);
}

struct GradientReducer::State {
  State(std::vector<RankTensor> parameters, double bucket_mebibytes, Ranks* ranks)
      : parameters(std::move(parameters)),
        bucket_bytes(static_cast<int64_t>(bucket_mebibytes * (1 << 20))),
        ranks(ranks),
        parts(this->parameters.size()),
        expected(this->parameters.size()),
        used(this->parameters.size()) {}
  ~State();

  void MakeReducer();
  // The gradient of parameter `i` has been added to, in the backward pass.
  void Arrived(size_t i);
  // All gradients of the backward pass are there: what no bucket has yet goes into one.
  void Complete();
  void ForgetUnused();

  std::vector<RankTensor> parameters;
  const int64_t bucket_bytes;
  Ranks* const ranks;
  std::unique_ptr<c10d::Reducer> reducer;
  // Nodes that add to the parameters' gradients, with the keys of our hooks.
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks;

  // Of the backward pass that is going on:
  bool synchronise = false;
  std::vector<int> parts;    // of each parameter's gradient that have arrived
  std::vector<char> marked;  // given to the reducer
  bool reducing = false;     // nothing is left but to wait for the others

  std::vector<int> expected;  // parts of each gradient: the most that a backward pass had
  bool learnt = false;

  // Which parameters have gradients, on this rank and then on how many.
  std::vector<char> used;
  at::Tensor used_on_device;
  at::Tensor users;
  c10::intrusive_ptr<c10d::Work> users_work;
};

GradientReducer::State::~State() {
  for (const auto& [node, key] : hooks) node->del_post_hook(key);
}

// Where an entry lies in its bucket decides in which order a ring of ranks sums it up, so the buckets must not depend
// on when a process was started, as c10d's own do: of a first layout, and from the second step on of the order in which
// gradients came in the first. Here both are one: from the last parameter to the first, about as gradients come.
void GradientReducer::State::MakeReducer() {
  std::vector<at::Tensor> tensors;
  std::unordered_map<size_t, std::string> names;
  for (const RankTensor& parameter : parameters) {
    names[tensors.size()] = parameter.name;
    tensors.push_back(parameter.tensor);
  }
  const std::vector<bool> sparse(tensors.size(), false);
  const int64_t first_bytes = std::min<int64_t>(c10d::kDefaultFirstBucketBytes, bucket_bytes);
  std::vector<int64_t> backwards(tensors.size());
  std::iota(backwards.rbegin(), backwards.rend(), 0);
  auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
      {tensors.rbegin(), tensors.rend()}, {static_cast<size_t>(first_bytes), static_cast<size_t>(bucket_bytes)}, sparse,
      backwards);
  reducer = std::make_unique<c10d::Reducer>(
      tensors, buckets, ranks->state()->gradients, sparse, bucket_bytes, /*find_unused_parameters=*/false,
      /*gradient_as_bucket_view=*/true, names, first_bytes, /*skip_all_reduce_unused_params=*/false,
      /*use_python_reducer=*/false, /*bucket_bytes_cap_list=*/std::vector<int64_t>());
  // Ours come in their place: theirs take a gradient for complete with its first part.
  reducer->remove_autograd_hooks();
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::shared_ptr<torch::autograd::Node> node = torch::autograd::impl::grad_accumulator(parameters[i].tensor);
    const uintptr_t key = node->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [this, i](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
          Arrived(i);
          return outputs;
        }));
    hooks.emplace_back(std::move(node), key);
  }
}

void GradientReducer::State::Arrived(size_t i) {
  if (!synchronise) return;
  ++parts[i];
  if (!learnt || expected[i] == 0) return;
  if (marked[i]) {
    throw std::runtime_error(absl::StrCat("the gradient of ", parameters[i].name, " came in more than the ",
                                          expected[i], " parts that it had in earlier steps, after it was sent"));
  }
  if (parts[i] < expected[i]) return;
  marked[i] = true;
  reducer->autograd_hook(i);
}

void GradientReducer::State::Complete() {
  ranks->state()->heartbeat->CountCall();
  std::vector<char> now(parameters.size());
  bool all = true;
  for (size_t i = 0; i < parameters.size(); ++i) {
    now[i] = marked[i] || parameters[i].tensor.grad().defined();
    all &= now[i];
  }
  for (size_t i = parameters.size(); i-- > 0;) {
    if (marked[i]) continue;
    marked[i] = true;
    reducer->autograd_hook(i);
  }
  for (size_t i = 0; i < parameters.size(); ++i) expected[i] = std::max(expected[i], parts[i]);
  learnt = true;

  const c10::Device device = parameters[0].tensor.device();
  if (!used_on_device.defined() || now != used) {
    used = now;
    at::Tensor counts = at::empty({static_cast<int64_t>(used.size())}, at::kInt);
    std::copy(used.begin(), used.end(), counts.mutable_data_ptr<int>());
    used_on_device = counts.to(device);
  }
  users = used_on_device.clone();
  std::vector<at::Tensor> tensors = {users};
  users_work = ranks->state()->gradients->allreduce(tensors);
  if (all) users = at::Tensor();
  reducing = true;
}

void GradientReducer::State::ForgetUnused() {
  users_work->wait();
  const at::Tensor counts = users.cpu();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (counts.const_data_ptr<int>()[i] == 0) parameters[i].tensor.mutable_grad() = at::Tensor();
  }
}

GradientReducer::GradientReducer(std::unique_ptr<State> state) : state_(std::move(state)) {}

GradientReducer::~GradientReducer() = default;

absl::StatusOr<std::unique_ptr<GradientReducer>> GradientReducer::Create(std::vector<RankTensor> parameters,
                                                                         double bucket_mebibytes, Ranks* ranks) {
  CHECK(!parameters.empty());
  return std::unique_ptr<GradientReducer>(
      new GradientReducer(std::make_unique<State>(std::move(parameters), bucket_mebibytes, ranks)));
}

absl::Status GradientReducer::Backward(const at::Tensor& loss, bool synchronise) {
  State& s = *state_;
  if (s.ranks->size() == 1 || !synchronise) {
    try {
      loss.backward();
      return absl::OkStatus();
    } catch (...) {
      return CurrentExceptionToStatus("backward pass");
    }
  }
  Ranks::State& ranks = *s.ranks->state();
  RETURN_IF_ERROR(ranks.Failure());
  ranks.heartbeat->CountCall();
  const Clock::time_point begin = Clock::now();
  s.reducing = true;
  try {
    // Not before there is something to send: parts that are only added up are not counted.
    if (s.reducer == nullptr) s.MakeReducer();
    s.reducer->rebuild_buckets();
    s.reducer->prepare_for_backward({});
    s.reducing = false;
    s.synchronise = true;
    std::fill(s.parts.begin(), s.parts.end(), 0);
    s.marked.assign(s.parameters.size(), false);
    const auto hook = loss.register_hook([&s](const at::Tensor&) {
      torch::autograd::Engine::get_default_engine().queue_callback([&s] { s.Complete(); });
    });
    loss.backward();
    loss.remove_hook(hook);
    s.synchronise = false;
    if (s.users.defined()) s.ForgetUnused();
    return absl::OkStatus();
  } catch (...) {
    s.synchronise = false;
    if (s.reducing) return ranks.Explain("averaging of gradients", begin);
    // What throws may be a collective that was aborted.
    RETURN_IF_ERROR(ranks.Failure());
    return CurrentExceptionToStatus("backward pass");
  }
}

}  // namespace graticule
