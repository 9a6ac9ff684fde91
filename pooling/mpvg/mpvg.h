// Pooling plugin graticule.Mpvg.
#ifndef GRATICULE_POOLING_MPVG_MPVG_H_
#define GRATICULE_POOLING_MPVG_MPVG_H_

#include <memory>

#include "absl/status/statusor.h"
#include "pooling/mpvg/mpvg.pb.h"
#include "pooling/pooling.h"

namespace graticule {

// An AveragePooling with the delivery preset MPVG. Errors: a delivery that contradicts itself, under "delivery".
absl::StatusOr<std::unique_ptr<Pooling>> CreateMpvg(const Mpvg& config, const PoolingContext& context);

}  // namespace graticule

#endif  // GRATICULE_POOLING_MPVG_MPVG_H_
