#include "nn/activation_checkpointing.h"

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ATen/Context.h"
#include "ATen/core/Generator.h"
#include "c10/core/GradMode.h"
#include "c10/util/Exception.h"
#include "nn/autocast.h"
#include "torch/csrc/autograd/edge.h"
#include "torch/csrc/autograd/engine.h"
#include "torch/csrc/autograd/function.h"
#include "torch/csrc/autograd/saved_variable.h"
#include "torch/csrc/autograd/variable.h"

namespace graticule {
namespace {

using torch::autograd::edge_list;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using torch::autograd::impl::gradient_edge;

thread_local bool checkpointing = false;
thread_local bool recomputing = false;

// Gives a variable a value for as long as it lives.
class ScopedValue {
 public:
  ScopedValue(bool& variable, bool value) : variable_(variable), previous_(std::exchange(variable, value)) {}
  ~ScopedValue() { variable_ = previous_; }
  ScopedValue(const ScopedValue&) = delete;
  ScopedValue& operator=(const ScopedValue&) = delete;

 private:
  bool& variable_;
  bool previous_;
};

// Where the default generators stand that operators on a device draw from.
class DrawsState {
 public:
  explicit DrawsState(c10::Device device) {
    Add(at::globalContext().defaultGenerator(at::kCPU));
    if (device.is_cuda()) Add(at::globalContext().defaultGenerator(device));
  }

  // Sets the generators back.
  void Restore() const {
    for (const auto& [generator, state] : states_) {
      at::Generator mutable_generator = generator;
      const std::lock_guard<std::mutex> lock(mutable_generator.mutex());
      mutable_generator.set_state(state);
    }
  }

 private:
  void Add(at::Generator generator) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states_.emplace_back(generator, generator.get_state());
  }

  std::vector<std::pair<at::Generator, at::Tensor>> states_;
};

// The same numbers at the root of a graph of their own.
at::Tensor Detached(const at::Tensor& input) {
  return input.defined() ? input.detach().requires_grad_(input.requires_grad()) : at::Tensor();
}

// Where the gradients of the leaves go that `y` was computed from; without `inputs`.
edge_list LeafEdges(const at::Tensor& y, const edge_list& inputs) {
  std::unordered_set<torch::autograd::Node*> seen;
  for (const torch::autograd::Edge& input : inputs) seen.insert(input.function.get());
  edge_list leaves, open = {gradient_edge(y)};
  while (!open.empty()) {
    const torch::autograd::Edge edge = std::move(open.back());
    open.pop_back();
    if (!edge.is_valid() || !seen.insert(edge.function.get()).second) continue;
    const edge_list& next = edge.function->next_edges();
    if (next.empty()) leaves.push_back(edge);
    open.insert(open.end(), next.begin(), next.end());
  }
  return leaves;
}

// The gradient of a checkpointed layer. Its outputs are the gradients of x, of the position and of the parameters:
// their accumulators belong to the surrounding graph, and the graph of the layer, which lives in apply() alone, ends
// before them.
class CheckpointedLayer : public torch::autograd::Node {
 public:
  CheckpointedLayer(LayerFunction layer, const at::Tensor& x, const at::Tensor& position)
      : layer_(std::move(layer)),
        x_(x, /*is_output=*/false),
        position_(position, /*is_output=*/false),
        device_(x.device()),
        autocast_(CurrentAutocastDtype(device_.type())),
        draws_(device_) {}

  std::string name() const override { return "CheckpointedLayer"; }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    x_.reset_data();
    position_.reset_data();
  }

 protected:
  variable_list apply(variable_list&& gradients) override {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "a checkpointed layer has no second derivative");
    const std::lock_guard<std::mutex> lock(mutex_);
    variable_list outputs(num_outputs());
    if (!gradients[0].defined()) return outputs;
    const at::Tensor x = Detached(x_.unpack()), position = Detached(position_.unpack());
    const torch::autograd::Edge root = gradient_edge(Recompute(x, position));
    edge_list ends = torch::autograd::collect_next_edges(x, position);
    ends.insert(ends.end(), next_edges().begin() + ends.size(), next_edges().end());

    std::vector<size_t> asked;
    edge_list asked_ends;
    for (size_t i = 0; i < ends.size(); ++i) {
      if (!task_should_compute_output(i)) continue;
      asked.push_back(i);
      asked_ends.push_back(std::move(ends[i]));
    }
    variable_list found = torch::autograd::Engine::get_default_engine().execute(
        {root}, {std::move(gradients[0])}, /*keep_graph=*/false, /*create_graph=*/false, /*accumulate_grad=*/false,
        asked_ends);
    for (size_t i = 0; i < asked.size(); ++i) outputs[asked[i]] = std::move(found[i]);
    return outputs;
  }

 private:
  at::Tensor Recompute(const at::Tensor& x, const at::Tensor& position) const {
    const ScopedValue plain(checkpointing, false), again(recomputing, true);
    const c10::AutoGradMode record(true);
    const Autocast autocast(autocast_, device_.type());
    struct Draws {
      explicit Draws(const DrawsState& state, c10::Device device) : before(device) { state.Restore(); }
      ~Draws() { before.Restore(); }
      DrawsState before;
    } draws(draws_, device_);
    return layer_(x, position);
  }

  LayerFunction layer_;
  SavedVariable x_, position_;
  c10::Device device_;
  std::optional<at::ScalarType> autocast_;
  DrawsState draws_;  // before the layer ran
};

}  // namespace

ActivationCheckpointingScope::ActivationCheckpointingScope() : previous_(std::exchange(checkpointing, true)) {}

ActivationCheckpointingScope::~ActivationCheckpointingScope() { checkpointing = previous_; }

at::Tensor Checkpointed(LayerFunction layer, const at::Tensor& x, const at::Tensor& position) {
  if (!checkpointing || !c10::GradMode::is_enabled()) return layer(x, position);
  const std::shared_ptr<CheckpointedLayer> node(new CheckpointedLayer(layer, x, position), torch::autograd::deleteNode);
  // Gradients are recorded here too, although that graph goes at once: it tells which parameters there are, and
  // autocast keeps cast copies of weights, which others use after the layer.
  const at::Tensor x_here = Detached(x), position_here = Detached(position);
  at::Tensor y;
  {
    const ScopedValue plain(checkpointing, false);
    y = layer(x_here, position_here);
  }
  if (!y.requires_grad()) return y;
  edge_list edges = torch::autograd::collect_next_edges(x, position);
  const edge_list leaves = LeafEdges(y, torch::autograd::collect_next_edges(x_here, position_here));
  edges.insert(edges.end(), leaves.begin(), leaves.end());
  node->set_next_edges(std::move(edges));
  at::Tensor result = y.detach();
  torch::autograd::create_gradient_edge(result, node);
  return result;
}

bool IsRecomputing() { return recomputing; }

}  // namespace graticule
