// Loops of our own on LibTorch's threads.
#ifndef GRATICULE_NN_PARALLEL_H_
#define GRATICULE_NN_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace graticule {

// Calls `run` for 0, …, count - 1, on as many threads as at::get_num_threads() says. at::parallel_for does that only in
// code that is compiled for OpenMP, as LibTorch's own loops are.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& run);

}  // namespace graticule

#endif  // GRATICULE_NN_PARALLEL_H_
