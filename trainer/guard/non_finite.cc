#include "trainer/guard/non_finite.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ATen/ops/_foreach_norm.h"
#include "ATen/ops/stack.h"
#include "ATen/record_function.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "c10/core/GradMode.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// Holds no memory, but the address: none that is remembered is given to another storage.
using StorageKey = c10::weak_intrusive_ptr<c10::StorageImpl>;

StorageKey KeyOf(const at::Tensor& tensor) { return tensor.storage().getWeakStorageImpl(); }

// What can be looked into.
bool HasNumbers(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_floating_point() && tensor.layout() == at::kStrided && !tensor.is_meta() &&
         tensor.numel() > 0;
}

// NaN has a sign that nobody wants to see.
std::string Number(double value) { return std::isnan(value) ? "nan" : absl::StrFormat("%.6g", value); }

// Greatest absolute value; NaN where there is one.
double Largest(const at::Tensor& tensor) {
  const c10::NoGradGuard no_grad;
  const auto [least, greatest] = tensor.detach().aminmax();
  const double low = least.item<double>(), high = greatest.item<double>();
  return std::isnan(low) ? low : std::max(std::abs(low), std::abs(high));
}

bool IsFinite(const at::Tensor& tensor) { return !HasNumbers(tensor) || std::isfinite(Largest(tensor)); }

// "1 NaN and 12 infinite of 512 values [4,128] BFloat16".
std::string Describe(const at::Tensor& tensor) {
  const c10::NoGradGuard no_grad;
  const int64_t nan = tensor.detach().isnan().sum().item<int64_t>();
  const int64_t infinite = tensor.detach().isinf().sum().item<int64_t>();
  std::vector<std::string> counts;
  if (nan > 0) counts.push_back(absl::StrCat(nan, " NaN"));
  if (infinite > 0) counts.push_back(absl::StrCat(infinite, " infinite"));
  return absl::StrCat(absl::StrJoin(counts, " and "), " of ", tensor.numel(), " values [",
                      absl::StrJoin(tensor.sizes(), ","), "] ", c10::toString(tensor.scalar_type()));
}

// "blocks.3.mlp.fc2" of "blocks.3.mlp.fc2.weight"; a parameter of the model itself stands for itself.
std::string ModuleOf(const std::string& parameter) { return parameter.substr(0, parameter.rfind('.')); }

void AddTensors(const c10::IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) tensors.push_back(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) AddTensors(element, tensors);
  }
}

template <typename Values>
std::vector<at::Tensor> TensorsOf(const Values& values) {
  std::vector<at::Tensor> tensors;
  for (const c10::IValue& value : values) AddTensors(value, tensors);
  std::erase_if(tensors, [](const at::Tensor& tensor) { return !tensor.has_storage(); });
  return tensors;
}

// By the names that operators have where they write to an argument.
bool WritesToArguments(const at::RecordFunction& function) {
  return std::string_view(function.name()).ends_with('_') ||
         std::string_view(function.overload_name()).find("out") != std::string_view::npos;
}

// Whose results nobody has written yet.
bool LeavesMemoryAsItIs(std::string_view name) {
  return name.starts_with("aten::empty") || name.starts_with("aten::new_empty") || name.starts_with("aten::resize") ||
         name.starts_with("aten::set_");
}

// What is known of the operators and tensors of a step. Storages stand for tensors: views share them.
class Trace {
 public:
  explicit Trace(const Module& model) {
    for (const NamedParameter& parameter : model.Parameters()) owners_[KeyOf(parameter.tensor)] = parameter.name;
  }

  void StartBackward() {
    absl::MutexLock lock(&mutex_);
    backward_ = true;
  }
  // Each part starts anew.
  void StartForward() {
    absl::MutexLock lock(&mutex_);
    backward_ = false;
    last_module_.clear();
  }

  // Of a tensor that is not finite: a number that grows with time.
  std::optional<size_t> OriginOf(const at::Tensor& tensor) {
    absl::MutexLock lock(&mutex_);
    const auto found = marks_.find(KeyOf(tensor));
    if (found == marks_.end()) return std::nullopt;
    return found->second.origin;
  }
  std::string OriginText(size_t origin) {
    absl::MutexLock lock(&mutex_);
    return origins_[origin];
  }

  // A call under way.
  struct Call : at::ObserverContext {
    int64_t started = 0;
    bool is_node = false;  // of the backward pass; else an operator
    bool forward = true;   // in the backward pass too, where activations are computed again
    bool nested = false;   // called by an operator
    std::string name;
    std::string place;  // " in blocks.3.mlp.fc2", ", after blocks.3.attn.qkv", …
    std::string owner;  // the parameter that all input tensors are, or are copies of
    std::vector<at::Tensor> inputs;
  };

  std::unique_ptr<Call> Enter(const at::RecordFunction& function) {
    absl::MutexLock lock(&mutex_);
    auto call = std::make_unique<Call>();
    call->started = ++time_;
    call->name = function.name();
    if (function.scope() == at::RecordScope::BACKWARD_FUNCTION) {
      call->is_node = true;
      nodes_.push_back(ForwardOf(function.forwardThreadId(), function.seqNr()));
      return call;
    }
    call->forward = !backward_ || c10::GradMode::is_enabled();
    call->nested = !places_.empty();
    call->inputs = TensorsOf(function.inputs());
    SetPlace(*call);
    places_.push_back(call->place);
    if (function.seqNr() >= 0) by_sequence_[{function.threadId(), function.seqNr()}] = {call->name, call->place};
    return call;
  }

  void Leave(const at::RecordFunction& function, const Call& call) {
    absl::MutexLock lock(&mutex_);
    if (call.is_node) return nodes_.pop_back();
    places_.pop_back();
    const std::vector<at::Tensor> outputs = TensorsOf(function.outputs());
    for (const at::Tensor& output : outputs) {
      const StorageKey key = KeyOf(output);
      const bool fresh = !Shares(call.inputs, key);
      if (!fresh && !WritesToArguments(function)) continue;  // a view
      // A new tensor that was made from nothing but a parameter stands for it: cast and scaled copies.
      if (fresh && !call.owner.empty()) owners_[key] = call.owner;
      if (LeavesMemoryAsItIs(call.name)) {
        marks_.erase(key);
      } else if (IsFinite(output)) {
        // The rest of a storage may be what it was.
        if (fresh || output.nbytes() == output.storage().nbytes()) marks_.erase(key);
      } else {
        MarkOutput(call, outputs, output);
      }
    }
  }

 private:
  // A storage that holds values that are not finite.
  struct Mark {
    size_t origin;
    int64_t time;  // since when
  };
  struct Operator {
    std::string name, place;
  };

  static bool Shares(const std::vector<at::Tensor>& tensors, const StorageKey& key) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) { return KeyOf(tensor) == key; });
  }

  // Sets `owner` and `place` by `inputs`. Of several parameters the last one names the module: a norm of the position
  // has its weights after what it norms.
  void SetPlace(Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bool all_same = true;
    for (const at::Tensor& input : call.inputs) {
      const auto found = owners_.find(KeyOf(input));
      const bool owned = found != owners_.end();
      all_same = all_same && owned && (call.owner.empty() || call.owner == found->second);
      if (owned) call.owner = found->second;
    }
    if (!call.owner.empty()) {
      const std::string module = ModuleOf(call.owner);
      call.place = absl::StrCat(" in ", module);
      if (call.forward) last_module_ = module;
    } else if (call.nested) {
      call.place = places_.back();
    } else if (!call.forward) {
      if (!nodes_.empty()) call.place = nodes_.back().place;
    } else if (!last_module_.empty()) {
      call.place = absl::StrCat(", after ", last_module_);
    }
    if (!all_same) call.owner.clear();
  }

  // Whose gradient a node of the backward pass computes; empty where that is not known. A node that is no operator's
  // has a number of its own: the operator before it is near.
  Operator ForwardOf(uint64_t thread, int64_t sequence) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto after = by_sequence_.upper_bound({thread, sequence});
    if (after == by_sequence_.begin()) return {};
    const auto& [number, forward] = *std::prev(after);
    return sequence >= 0 && number.first == thread ? forward : Operator();
  }

  // Says why an output is not finite: because of an input that was not, or of the call itself.
  void MarkOutput(const Call& call, const std::vector<at::Tensor>& outputs, const at::Tensor& output)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    double largest = 0;            // of the inputs that are finite
    std::string unknown;           // an input that is not and that no operator has computed
    std::optional<size_t> origin;  // of one that is not
    for (const at::Tensor& input : call.inputs) {
      if (!HasNumbers(input)) continue;
      const auto mark = marks_.find(KeyOf(input));
      if (Shares(outputs, KeyOf(input))) {
        // It is written over by now, and may have held whatever was in new memory.
        if (mark != marks_.end() && mark->second.time < call.started) origin = origin.value_or(mark->second.origin);
        continue;
      }
      const double value = Largest(input);
      if (std::isfinite(value)) {
        largest = std::max(largest, value);
      } else if (mark != marks_.end()) {
        origin = origin.value_or(mark->second.origin);
      } else if (unknown.empty()) {
        unknown = Describe(input);
      }
    }
    if (!origin.has_value()) {
      const auto mark = marks_.find(KeyOf(output));
      const bool by_nested_call = mark != marks_.end() && mark->second.time > call.started;
      // What a nested call is given may be what the outer one has computed, which ends later.
      if (by_nested_call || (call.nested && !unknown.empty())) return;
      origin = AddOrigin(call, unknown, output, largest);
    }
    marks_[KeyOf(output)] = {.origin = *origin, .time = ++time_};
  }

  size_t AddOrigin(const Call& call, const std::string& unknown, const at::Tensor& output, double largest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::string where = call.name;
    if (!call.forward && !nodes_.empty() && !nodes_.back().name.empty()) {
      absl::StrAppend(&where, ", the gradient of ", nodes_.back().name);
    }
    absl::StrAppend(&where, call.place, call.forward ? " (forward)" : " (backward)");
    origins_.push_back(unknown.empty()
                           ? absl::StrCat("the first value that is not finite came out of ", where, ": ",
                                          Describe(output), "; the largest that went in is ", Number(largest))
                           : absl::StrCat("values that are not finite and that no operator computed went into ", where,
                                          ": ", unknown));
    return origins_.size() - 1;
  }

  // The backward pass of a CUDA device runs on a thread of its own.
  absl::Mutex mutex_;
  int64_t time_ ABSL_GUARDED_BY(mutex_) = 0;
  bool backward_ ABSL_GUARDED_BY(mutex_) = false;
  std::string last_module_ ABSL_GUARDED_BY(mutex_);          // that the forward pass used
  std::vector<std::string> places_ ABSL_GUARDED_BY(mutex_);  // of the operators under way
  std::vector<Operator> nodes_ ABSL_GUARDED_BY(mutex_);      // and of the nodes of the backward pass
  // Forward operators, which each thread numbers by itself: a GPU's own thread computes checkpointed layers again.
  std::map<std::pair<uint64_t, int64_t>, Operator> by_sequence_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<StorageKey, std::string> owners_ ABSL_GUARDED_BY(mutex_);  // names of parameters
  std::unordered_map<StorageKey, Mark> marks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> origins_ ABSL_GUARDED_BY(mutex_);
};

// Callbacks have no state of their own, and those of a thread follow the backward pass to other threads.
Trace* active_trace = nullptr;

std::unique_ptr<at::ObserverContext> Enter(const at::RecordFunction& function) {
  const at::DisableRecordFunctionGuard no_recursion;
  return active_trace->Enter(function);
}

void Leave(const at::RecordFunction& function, at::ObserverContext* context) {
  const at::DisableRecordFunctionGuard no_recursion;
  active_trace->Leave(function, *static_cast<const Trace::Call*>(context));
}

class TraceScope {
 public:
  explicit TraceScope(Trace& trace) {
    active_trace = &trace;
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(&Enter, &Leave)
                                             .needsInputs(true)
                                             .needsOutputs(true)
                                             .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
  }
  ~TraceScope() {
    at::removeCallback(handle_);
    active_trace = nullptr;
  }

 private:
  at::CallbackHandle handle_;
};

// Takes the gradients away, and gives them and the buffers' values back.
class StateScope {
 public:
  explicit StateScope(const Module& model) : parameters_(model.Parameters()), buffers_(model.Buffers()) {
    for (NamedParameter& parameter : parameters_) {
      gradients_.push_back(std::exchange(parameter.tensor.mutable_grad(), at::Tensor()));
    }
    for (const NamedBuffer& buffer : buffers_) values_.push_back(buffer.tensor.clone());
  }
  ~StateScope() {
    const c10::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) parameters_[i].tensor.mutable_grad() = gradients_[i];
    for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].tensor.copy_(values_[i]);
  }

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<NamedBuffer> buffers_;
  std::vector<at::Tensor> gradients_, values_;
};

// Of what is there before anything is computed.
std::string FindInTheState(const Module& model, const std::vector<Batch>& batches) {
  std::vector<std::string> bad;
  std::string described;
  const auto look = [&](const std::string& name, const at::Tensor& tensor) {
    if (IsFinite(tensor)) return;
    if (bad.empty()) described = Describe(tensor);
    bad.push_back(name);
  };
  for (const NamedParameter& parameter : model.Parameters()) look(parameter.name, parameter.tensor);
  if (!bad.empty()) {
    return absl::StrCat(bad.size() == 1 ? "the parameter " : "the parameters ", FirstFew(bad),
                        bad.size() == 1 ? " is" : " are", " not finite: ", described,
                        bad.size() == 1 ? "" : " in the first");
  }
  for (const Batch& batch : batches) {
    look("images", batch.images);
    look("soft labels", batch.soft_labels);
    look("logits of the teacher", batch.teacher_logits);
    if (!bad.empty()) return absl::StrCat("the batch's ", bad.front(), " are not finite: ", described);
  }
  return "";
}

// Of the gradients, which are finite: the one with the largest entry.
std::string DescribeLargest(const std::vector<NamedParameter>& parameters) {
  const NamedParameter* greatest = nullptr;
  double value = -1;
  for (const NamedParameter& parameter : parameters) {
    if (!HasNumbers(parameter.tensor.grad())) continue;
    const double largest = Largest(parameter.tensor.grad());
    if (largest <= value) continue;
    value = largest;
    greatest = &parameter;
  }
  return absl::StrCat("the gradients are finite but their norm is not; the largest entry, ", Number(value),
                      ", is one of ", greatest->name);
}

std::string CauseOf(Trace& trace, const at::Tensor& tensor, const std::string& name) {
  const std::optional<size_t> origin = trace.OriginOf(tensor);
  return origin.has_value() ? trace.OriginText(*origin) : absl::StrCat(name, " is not finite: ", Describe(tensor));
}

}  // namespace

std::string Diagnosis::ToString() const {
  std::string text = absl::StrCat("loss: ", Number(loss), "\ngradient norm: ", Number(gradient_norm), "\n");
  absl::StrAppend(&text, cause.empty() ? "all values are finite" : cause, "\n");
  if (!bad_gradients.empty()) absl::StrAppend(&text, "gradients that are not finite: ", FirstFew(bad_gradients), "\n");
  return text;
}

absl::StatusOr<Diagnosis> FindNonFinite(const Module& model, const std::vector<Batch>& batches,
                                        const std::function<at::Tensor(int part)>& forward, double loss_scale) {
  Diagnosis diagnosis;
  const StateScope state(model);
  try {
    diagnosis.cause = FindInTheState(model, batches);
    Trace trace(model);
    const int parts = static_cast<int>(batches.size());
    for (int part = 0; part < parts; ++part) {
      const TraceScope scope(trace);
      trace.StartForward();
      const at::Tensor loss = forward(part);
      diagnosis.loss += loss.item<double>() / parts;
      if (diagnosis.cause.empty() && !IsFinite(loss)) diagnosis.cause = CauseOf(trace, loss.detach(), "the loss");
      const at::Tensor share = loss.mul(loss_scale / parts);
      trace.StartBackward();
      share.backward();
    }

    std::vector<at::Tensor> gradients;
    std::optional<size_t> first;
    std::string first_cause;
    const std::vector<NamedParameter> parameters = model.Parameters();
    for (const NamedParameter& parameter : parameters) {
      const at::Tensor gradient = parameter.tensor.grad();
      if (!gradient.defined()) continue;
      gradients.push_back(gradient);
      if (IsFinite(gradient)) continue;
      diagnosis.bad_gradients.push_back(parameter.name);
      const std::optional<size_t> origin = trace.OriginOf(gradient);
      if (!first_cause.empty() && !(origin.has_value() && (!first.has_value() || *origin < *first))) continue;
      first = origin;
      first_cause = CauseOf(trace, gradient, absl::StrCat("the gradient of ", parameter.name));
    }
    if (diagnosis.cause.empty()) diagnosis.cause = first_cause;
    if (!gradients.empty()) {
      diagnosis.gradient_norm = at::stack(at::_foreach_norm(gradients, 2)).norm().item<double>() / loss_scale;
    }
    if (diagnosis.cause.empty() && !std::isfinite(diagnosis.gradient_norm)) {
      diagnosis.cause = DescribeLargest(parameters);
    }
  } catch (...) {
    return CurrentExceptionToStatus("looking for values that are not finite");
  }
  return diagnosis;
}

}  // namespace graticule
