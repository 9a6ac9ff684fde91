// Pooling plugin graticule.Average.
#ifndef GRATICULE_POOLING_AVERAGE_AVERAGE_H_
#define GRATICULE_POOLING_AVERAGE_AVERAGE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "pooling/average/average.pb.h"
#include "pooling/pooling.h"

namespace graticule {

// An AveragePooling with the delivery preset VIT. Errors: a delivery that contradicts itself, under "delivery".
absl::StatusOr<std::unique_ptr<Pooling>> CreateAverage(const Average& config, const PoolingContext& context);

}  // namespace graticule

#endif  // GRATICULE_POOLING_AVERAGE_AVERAGE_H_
