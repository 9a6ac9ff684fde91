// Shapes of the operators that LibTorch computes on the meta device in Python alone, so that a vision transformer that
// was built inside a MetaScope can be run there.
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/core/dispatch/Dispatcher.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/empty_like.h"
#include "c10/util/Exception.h"

namespace graticule {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> NativeLayerNorm(const at::Tensor& input, at::IntArrayRef normalized,
                                                               const std::optional<at::Tensor>& weight,
                                                               const std::optional<at::Tensor>& bias, double epsilon) {
  std::vector<int64_t> statistics = input.sizes().vec();
  for (size_t i = statistics.size() - normalized.size(); i < statistics.size(); ++i) statistics[i] = 1;
  return {at::empty(input.sizes(), input.options()), at::empty(statistics, input.options()),
          at::empty(statistics, input.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> NativeBatchNorm(const at::Tensor& input,
                                                               const std::optional<at::Tensor>& weight,
                                                               const std::optional<at::Tensor>& bias,
                                                               const std::optional<at::Tensor>& running_mean,
                                                               const std::optional<at::Tensor>& running_var,
                                                               bool training, double momentum, double epsilon) {
  const int64_t statistics = training ? input.size(1) : 0;
  return {at::empty(input.sizes(), input.options()), at::empty({statistics}, input.options()),
          at::empty({statistics}, input.options())};
}

at::Tensor SafeSoftmax(const at::Tensor& input, int64_t dim, std::optional<at::ScalarType> dtype) {
  return at::empty(input.sizes(), input.options().dtype(dtype.value_or(input.scalar_type())));
}

at::Tensor Convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  TORCH_CHECK(!transposed, "no shapes of transposed convolutions on the meta device");
  std::vector<int64_t> sizes = {input.size(0), weight.size(0)};
  for (int64_t axis = 0; axis + 2 < input.dim(); ++axis) {
    const int64_t reach = dilation[axis] * (weight.size(axis + 2) - 1) + 1;
    sizes.push_back((input.size(axis + 2) + 2 * padding[axis] - reach) / stride[axis] + 1);
  }
  return at::empty(sizes, input.options());
}

at::Tensor Relu(const at::Tensor& input) { return at::empty_like(input); }

at::Tensor Roll(const at::Tensor& input, c10::SymIntArrayRef shifts, at::IntArrayRef dims) {
  return at::empty(input.sizes(), input.options());
}

at::Tensor IndexSelect(const at::Tensor& input, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> sizes = input.sizes().vec();
  sizes[dim] = index.numel();
  return at::empty(sizes, input.options());
}

template <typename Function>
c10::RegistrationHandleRAII Register(const char* name, Function* function) {
  return c10::Dispatcher::singleton().registerImpl(
      {name, ""}, c10::DispatchKey::Meta, c10::KernelFunction::makeFromUnboxedRuntimeFunction(function),
      c10::impl::CppSignature::make<Function>(), /*inferred_function_schema=*/nullptr, __FILE__);
}

const auto layer_norm = Register("aten::native_layer_norm", &NativeLayerNorm);
const auto batch_norm = Register("aten::native_batch_norm", &NativeBatchNorm);
const auto convolution = Register("aten::convolution_overrideable", &Convolution);
const auto relu = Register("aten::relu", &Relu);
const auto index_select = Register("aten::index_select", &IndexSelect);
const auto roll = Register("aten::roll", &Roll);
const auto safe_softmax = Register("aten::_safe_softmax", &SafeSoftmax);

}  // namespace
}  // namespace graticule
