#include "nn/macs.h"

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "ATen/core/Tensor.h"
#include "ATen/record_function.h"
#include "c10/core/GradMode.h"

namespace graticule {
namespace {

// An operator whose first operand is argument `operands` and whose second is the one after it.
struct Product {
  int operands;
  int64_t (*macs)(const at::Tensor& a, const at::Tensor& b, c10::ArrayRef<const c10::IValue> arguments);
};

// a [...,n,k] · b [...,k,m], or b [k].
int64_t MatrixProduct(const at::Tensor& a, const at::Tensor& b, c10::ArrayRef<const c10::IValue>) {
  return a.numel() * (b.dim() > 1 ? b.size(-1) : 1);
}

// a [...,k] · b [m,k] transposed.
int64_t LinearProduct(const at::Tensor& a, const at::Tensor& b, c10::ArrayRef<const c10::IValue>) {
  return a.numel() * (b.dim() > 1 ? b.size(0) : 1);
}

// q·kᵀ and the weights times v, for q [...,n,e], k [...,m,e], v [...,m,d]; grouped queries included.
int64_t AttentionProducts(const at::Tensor& q, const at::Tensor& k, c10::ArrayRef<const c10::IValue> arguments) {
  return q.numel() / q.size(-1) * k.size(-2) * (q.size(-1) + arguments[2].toTensor().size(-1));
}

// Each output pixel (each input pixel, if transposed) meets a filter of a group's channels.
int64_t ConvolutionProduct(const at::Tensor& input, const at::Tensor& weight,
                           c10::ArrayRef<const c10::IValue> arguments) {
  const bool transposed = arguments[6].toBool();
  // A list of one stands for all axes.
  const auto along = [&](int argument, int64_t axis) {
    const std::vector<int64_t> values = arguments[argument].toIntVector();
    return values.size() == 1 ? values[0] : values[axis];
  };
  int64_t pixels = input.size(0);
  for (int64_t axis = 0; axis + 2 < input.dim(); ++axis) {
    const int64_t size = input.size(axis + 2);
    const int64_t stride = along(3, axis), padding = along(4, axis), dilation = along(5, axis);
    pixels *= transposed ? size : (size + 2 * padding - dilation * (weight.size(axis + 2) - 1) - 1) / stride + 1;
  }
  return pixels * weight.numel();
}

const Product* FindProduct(std::string_view name) {
  static const auto* products = new std::unordered_map<std::string_view, Product>{
      {"aten::linear", {0, &LinearProduct}},
      {"aten::mm", {0, &MatrixProduct}},
      {"aten::addmm", {1, &MatrixProduct}},
      {"aten::bmm", {0, &MatrixProduct}},
      {"aten::baddbmm", {1, &MatrixProduct}},
      {"aten::baddbmm_", {1, &MatrixProduct}},
      {"aten::mv", {0, &MatrixProduct}},
      {"aten::addmv", {1, &MatrixProduct}},
      {"aten::dot", {0, &MatrixProduct}},
      {"aten::convolution", {0, &ConvolutionProduct}},
      {"aten::scaled_dot_product_attention", {0, &AttentionProducts}}};
  const auto found = products->find(name);
  return found == products->end() ? nullptr : &found->second;
}

struct Counting {
  std::unordered_map<const c10::StorageImpl*, std::string> parameters;  // views share their parameter's storage
  MacCount count;
  int depth = 0;  // of products within products, which are the same multiply-adds again
};
thread_local Counting* counting = nullptr;

// Says to the end of a call that it is a product.
struct Entered : at::ObserverContext {};

std::unique_ptr<at::ObserverContext> Enter(const at::RecordFunction& call) {
  const Product* product = FindProduct(call.name());
  if (product == nullptr) return nullptr;
  if (counting->depth++ > 0) return std::make_unique<Entered>();
  const auto arguments = call.inputs();
  const at::Tensor &a = arguments[product->operands].toTensor(), &b = arguments[product->operands + 1].toTensor();
  const int64_t macs = product->macs(a, b, arguments);
  counting->count.total += macs;
  for (const at::Tensor& operand : {b, a}) {
    const auto owner = counting->parameters.find(operand.storage().unsafeGetStorageImpl());
    if (owner == counting->parameters.end()) continue;
    counting->count.by_parameter[owner->second] += macs;
    return std::make_unique<Entered>();
  }
  counting->count.by_operator[std::string(call.name()).substr(sizeof("aten::") - 1)] += macs;
  return std::make_unique<Entered>();
}

void Leave(const at::RecordFunction&, at::ObserverContext* context) {
  if (context != nullptr) --counting->depth;
}

}  // namespace

MacCount CountMacs(const std::vector<NamedParameter>& parameters, const std::function<void()>& run) {
  Counting mine;
  for (const NamedParameter& parameter : parameters) {
    mine.parameters[parameter.tensor.storage().unsafeGetStorageImpl()] = parameter.name;
  }
  struct Scope {
    explicit Scope(Counting* mine)
        : previous(std::exchange(counting, mine)),
          handle(at::addThreadLocalCallback(
              at::RecordFunctionCallback(&Enter, &Leave).needsInputs(true).scopes({at::RecordScope::FUNCTION}))) {}
    ~Scope() {
      at::removeCallback(handle);
      counting = previous;
    }
    Counting* previous;
    at::CallbackHandle handle;
  } scope(&mine);
  c10::NoGradGuard no_grad;
  run();
  return std::move(mine.count);
}

}  // namespace graticule
