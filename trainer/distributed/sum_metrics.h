// Metrics of all ranks as if one process had seen all samples.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_SUM_METRICS_H_
#define GRATICULE_TRAINER_DISTRIBUTED_SUM_METRICS_H_

#include "absl/status/statusor.h"
#include "nn/metrics.h"
#include "trainer/distributed/ranks.h"

namespace graticule {

// Sums and counts of every name, added in double in the order of the ranks: the same bits on each. A rank that has no
// batch lacks names, or gives an empty Metrics. In a world of one it is `metrics` as it stands.
absl::StatusOr<Metrics> SumMetrics(const Metrics& metrics, Ranks& ranks);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_SUM_METRICS_H_
