// In which order an epoch shows the samples.
#ifndef GRATICULE_DATA_LOADER_ORDER_H_
#define GRATICULE_DATA_LOADER_ORDER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "data/random.h"

namespace graticule {

// A permutation of the samples 0 … samples-1 that is a function of (seed, epoch) and can be asked at any place at once.
class ShuffledOrder {
 public:
  // `runs` are Dataset::Runs(). Without any, every permutation is as likely as every other. With runs, they come one
  // after the other in a random order, and what they hold is shuffled among each `buffer` neighbours: whoever reads
  // ahead reads each run from its start to its end.
  ShuffledOrder(int64_t samples, const std::vector<int64_t>& runs, int64_t buffer, uint64_t seed, int64_t epoch);

  // The sample at a place; O(log runs).
  int64_t operator()(int64_t place) const;

 private:
  // A run of the data set, where the order has it.
  struct Run {
    int64_t place;         // of its first sample, before neighbours are shuffled
    int64_t first_sample;  // in the data set
  };

  int64_t samples_;
  int64_t buffer_;
  uint64_t seed_;
  uint64_t epoch_;
  std::optional<Permutation> all_;  // without runs
  std::vector<Run> runs_;           // in the order of their places
};

}  // namespace graticule

#endif  // GRATICULE_DATA_LOADER_ORDER_H_
