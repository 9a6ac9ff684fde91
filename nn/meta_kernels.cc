// Shapes of the operators that LibTorch computes on the meta device in Python alone, so that a vision transformer that
// was built inside a MetaScope can be run there.
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/core/dispatch/Dispatcher.h"
#include "ATen/ops/empty.h"

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

at::Tensor SafeSoftmax(const at::Tensor& input, int64_t dim, std::optional<at::ScalarType> dtype) {
  return at::empty(input.sizes(), input.options().dtype(dtype.value_or(input.scalar_type())));
}

template <typename Function>
c10::RegistrationHandleRAII Register(const char* name, Function* function) {
  return c10::Dispatcher::singleton().registerImpl(
      {name, ""}, c10::DispatchKey::Meta, c10::KernelFunction::makeFromUnboxedRuntimeFunction(function),
      c10::impl::CppSignature::make<Function>(), /*inferred_function_schema=*/nullptr, __FILE__);
}

const auto layer_norm = Register("aten::native_layer_norm", &NativeLayerNorm);
const auto safe_softmax = Register("aten::_safe_softmax", &SafeSoftmax);

}  // namespace
}  // namespace graticule
