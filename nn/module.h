// The base of everything that owns weights. It has the parts of torch::nn::Module that Graticule uses, at a third of
// the compile time: named parameters and buffers, children, train and eval mode, moving to a device.
#ifndef GRATICULE_NN_MODULE_H_
#define GRATICULE_NN_MODULE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "c10/core/Device.h"

namespace graticule {

struct ParameterOptions {
  // Weight decay applies. Norms, biases and every other tensor of one axis never decay, whatever stands here; positions
  // and class tokens say false.
  bool decay = true;
  // False for tensors that the published code counts as parameters but does not train (a fixed sinusoid, say).
  bool trainable = true;
};

struct NamedParameter {
  std::string name;  // "blocks.0.attn.qkv.weight": timm's name where timm has the model
  at::Tensor tensor;
  bool decay;
  bool trainable;
};

struct NamedBuffer {
  std::string name;
  at::Tensor tensor;
};

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  // Children are registered by address.
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Own ones first, then the children's, in the order of registration: depth first. The tensors share storage with the
  // module's own.
  std::vector<NamedParameter> Parameters() const;
  std::vector<NamedBuffer> Buffers() const;
  // Number of elements of all parameters, untrained ones included (as the papers count).
  int64_t ParameterCount() const;

  // Train mode is on at first, as in PyTorch. Applies to all children.
  void SetTraining(bool training);
  bool training() const { return training_; }

  // Moves parameters and buffers in place.
  void To(c10::Device device);

  // Calls `visit` for this module ("" as name) and every one below, parents first.
  void Visit(const std::function<void(const std::string& name, const Module&)>& visit) const;
  // What a table of modules calls this one, for example "Linear".
  virtual std::string TypeName() const { return "Module"; }

  // Whether it is one of the layers that a model is counted in, such as a transformer block. Layers are numbered
  // through the model from 0, in the order of registration; of layers within a layer the outermost counts.
  virtual bool IsLayer() const { return false; }
  // What belongs to a layer without being inside it: the layer's number, by the name of a parameter or a child as it is
  // registered here, such as {"pos_norms.3", 3}.
  virtual std::map<std::string, int64_t> LayerMembers() const { return {}; }

 protected:
  // `tensor` comes from NewParameter. Returns it with requires_grad set.
  at::Tensor RegisterParameter(std::string_view name, at::Tensor tensor, ParameterOptions options = {});
  at::Tensor RegisterBuffer(std::string_view name, at::Tensor tensor);
  // A table that the module makes itself (an index, a mask, a fixed sinusoid): it moves with the module, and no
  // checkpoint has it. On the meta device inside a MetaScope.
  at::Tensor RegisterConstant(at::Tensor tensor);
  // The child must live as long as this module. An empty name adds no level to the children's names.
  void RegisterModule(std::string_view name, Module* child);
  // Owns the child too.
  template <typename T>
  T* RegisterModule(std::string_view name, std::unique_ptr<T> child) {
    T* raw = child.get();
    owned_.push_back(std::move(child));
    RegisterModule(name, static_cast<Module*>(raw));
    return raw;
  }

 private:
  bool training_ = true;
  std::vector<NamedParameter> parameters_;
  std::vector<NamedBuffer> buffers_;
  std::vector<at::Tensor> constants_;
  std::vector<std::pair<std::string, Module*>> children_;
  std::vector<std::unique_ptr<Module>> owned_;
};

// While one lives, this thread's NewParameter makes tensors on the meta device: shapes without memory. `check` and
// `show` build models so.
class MetaScope {
 public:
  MetaScope();
  ~MetaScope();
  static bool active();

 private:
  bool previous_;
};

// While one lives, this thread's Normal, Uniform and TruncNormal leave tensors as they are, uninitialised: for a model
// all of whose weights are read afterwards, which takes no longer than to draw them.
class UndrawnScope {
 public:
  UndrawnScope();
  ~UndrawnScope();
  static bool active();
  UndrawnScope(const UndrawnScope&) = delete;
  UndrawnScope& operator=(const UndrawnScope&) = delete;

 private:
  bool previous_;
};

// An uninitialised float tensor of this shape, on the CPU, or on the meta device inside a MetaScope.
at::Tensor NewParameter(at::IntArrayRef shape);

// Initialisers, in place, returning the tensor; no-ops on meta tensors. They draw from the CPU's default generator,
// which whoever builds the model has seeded.
namespace init {
at::Tensor Zeros(at::Tensor tensor);
at::Tensor Ones(at::Tensor tensor);
at::Tensor Constant(at::Tensor tensor, double value);
at::Tensor Normal(at::Tensor tensor, double std);
at::Tensor Uniform(at::Tensor tensor, double low, double high);
// Normal of mean 0 cut at ±2 (absolute, as timm's trunc_normal_ with its default bounds).
at::Tensor TruncNormal(at::Tensor tensor, double std);
// timm's lecun_normal_/PyTorch's defaults live with the modules that use them.
}  // namespace init

}  // namespace graticule

#endif  // GRATICULE_NN_MODULE_H_
