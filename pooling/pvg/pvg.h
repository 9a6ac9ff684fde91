// Pooling plugin graticule.Pvg.
#ifndef GRATICULE_POOLING_PVG_PVG_H_
#define GRATICULE_POOLING_PVG_PVG_H_

#include <memory>

#include "absl/status/statusor.h"
#include "pooling/pooling.h"
#include "pooling/pvg/pvg.pb.h"

namespace graticule {

// An AveragePooling with the delivery preset PVG. Errors: a delivery that contradicts itself, under "delivery".
absl::StatusOr<std::unique_ptr<Pooling>> CreatePvg(const Pvg& config, const PoolingContext& context);

}  // namespace graticule

#endif  // GRATICULE_POOLING_PVG_PVG_H_
