#include "pooling/pvg/pvg.h"

#include "nn/position_delivery.pb.h"
#include "plugin/registry.h"
#include "pooling/average_pooling.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Pooling>> CreatePvg(const Pvg& config, const PoolingContext& context) {
  return AveragePooling::Create(config.delivery(), PositionDelivery::PVG);
}

namespace {

const Registration<Pooling, Pvg> kRegistration("Mean of the patch tokens, the position delivered to the layers (PVG)",
                                               "", &CreatePvg);

}  // namespace
}  // namespace graticule
