#include "nn/parallel.h"

#include "ATen/TensorIterator.h"
#include "ATen/ops/arange.h"

namespace graticule {

void ParallelFor(int64_t count, const std::function<void(int64_t)>& run) {
  at::Tensor indices = at::arange(count, at::kLong);
  at::TensorIterator::nullary_op(indices).for_each(
      [&](char** data, const int64_t* strides, int64_t size) {
        for (int64_t i = 0; i < size; ++i) run(*reinterpret_cast<int64_t*>(data[0] + i * strides[0]));
      },
      /*grain_size=*/1);
}

}  // namespace graticule
