#include "nn/module.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "c10/core/GradMode.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

thread_local bool meta_scope_active = false;
thread_local bool undrawn_scope_active = false;

std::string ChildName(const std::string& prefix, const std::string& name) {
  if (prefix.empty()) return name;
  return name.empty() ? prefix : prefix + "." + name;
}

}  // namespace

std::vector<NamedParameter> Module::Parameters() const {
  std::vector<NamedParameter> all;
  Visit([&](const std::string& prefix, const Module& module) {
    for (const NamedParameter& own : module.parameters_) {
      all.push_back({ChildName(prefix, own.name), own.tensor, own.decay, own.trainable});
    }
  });
  return all;
}

std::vector<NamedBuffer> Module::Buffers() const {
  std::vector<NamedBuffer> all;
  Visit([&](const std::string& prefix, const Module& module) {
    for (const NamedBuffer& own : module.buffers_) all.push_back({ChildName(prefix, own.name), own.tensor});
  });
  return all;
}

int64_t Module::ParameterCount() const {
  int64_t count = 0;
  for (const NamedParameter& parameter : Parameters()) count += parameter.tensor.numel();
  return count;
}

void Module::SetTraining(bool training) {
  training_ = training;
  for (const auto& [name, child] : children_) child->SetTraining(training);
}

void Module::To(c10::Device device) {
  c10::NoGradGuard no_grad;
  // Modules hold handles to the same tensors, so the data is swapped under them.
  for (NamedParameter& parameter : parameters_) parameter.tensor.set_data(parameter.tensor.to(device));
  for (NamedBuffer& buffer : buffers_) buffer.tensor.set_data(buffer.tensor.to(device));
  for (at::Tensor& constant : constants_) constant.set_data(constant.to(device));
  for (const auto& [name, child] : children_) child->To(device);
}

void Module::Visit(const std::function<void(const std::string&, const Module&)>& visit) const {
  const std::function<void(const std::string&, const Module&)> walk = [&](const std::string& prefix,
                                                                          const Module& module) {
    visit(prefix, module);
    for (const auto& [name, child] : module.children_) walk(ChildName(prefix, name), *child);
  };
  walk("", *this);
}

at::Tensor Module::RegisterParameter(std::string_view name, at::Tensor tensor, ParameterOptions options) {
  for (const NamedParameter& other : parameters_) CHECK_NE(other.name, name) << "parameter registered twice";
  tensor.set_requires_grad(options.trainable);
  parameters_.push_back({std::string(name), tensor, options.decay && tensor.dim() > 1, options.trainable});
  return tensor;
}

at::Tensor Module::RegisterBuffer(std::string_view name, at::Tensor tensor) {
  buffers_.push_back({std::string(name), tensor});
  return tensor;
}

at::Tensor Module::RegisterConstant(at::Tensor tensor) {
  if (MetaScope::active()) tensor = tensor.to(at::kMeta);
  constants_.push_back(tensor);
  return tensor;
}

void Module::RegisterModule(std::string_view name, Module* child) {
  CHECK(child != nullptr);
  children_.emplace_back(std::string(name), child);
}

MetaScope::MetaScope() : previous_(std::exchange(meta_scope_active, true)) {}
MetaScope::~MetaScope() { meta_scope_active = previous_; }
bool MetaScope::active() { return meta_scope_active; }

UndrawnScope::UndrawnScope() : previous_(std::exchange(undrawn_scope_active, true)) {}
UndrawnScope::~UndrawnScope() { undrawn_scope_active = previous_; }
bool UndrawnScope::active() { return undrawn_scope_active; }

at::Tensor NewParameter(at::IntArrayRef shape) {
  return at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(meta_scope_active ? at::kMeta : at::kCPU));
}

namespace init {
namespace {

template <typename Fill>
at::Tensor InPlace(at::Tensor tensor, Fill fill) {
  if (tensor.is_meta()) return tensor;
  c10::NoGradGuard no_grad;
  fill(tensor);
  return tensor;
}

template <typename Draw>
at::Tensor Drawn(at::Tensor tensor, Draw draw) {
  return undrawn_scope_active ? tensor : InPlace(std::move(tensor), draw);
}

}  // namespace

at::Tensor Zeros(at::Tensor tensor) { return Constant(std::move(tensor), 0); }
at::Tensor Ones(at::Tensor tensor) { return Constant(std::move(tensor), 1); }
at::Tensor Constant(at::Tensor tensor, double value) {
  return InPlace(std::move(tensor), [&](at::Tensor& t) { t.fill_(value); });
}
at::Tensor Normal(at::Tensor tensor, double std) {
  return Drawn(std::move(tensor), [&](at::Tensor& t) { t.normal_(0, std); });
}
at::Tensor Uniform(at::Tensor tensor, double low, double high) {
  return Drawn(std::move(tensor), [&](at::Tensor& t) { t.uniform_(low, high); });
}

at::Tensor TruncNormal(at::Tensor tensor, double std) {
  return Drawn(std::move(tensor), [&](at::Tensor& t) {
    // The inverse of the cumulative distribution, evaluated on uniform numbers between those of the two bounds.
    const double bound = 2.0;
    // Less than 1 in single precision, where erfinv is infinite: a weight at the bound, far out of a small std.
    const double high = std::min(std::erf(bound / (std * std::sqrt(2.0))), 1 - 0x1p-24);
    t.uniform_(-high, high);
    t.erfinv_();
    t.mul_(std * std::sqrt(2.0));
    t.clamp_(-bound, bound);
  });
}

}  // namespace init
}  // namespace graticule
