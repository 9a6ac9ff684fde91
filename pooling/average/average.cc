#include "pooling/average/average.h"

#include "nn/position_delivery.pb.h"
#include "plugin/registry.h"
#include "pooling/average_pooling.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Pooling>> CreateAverage(const Average& config, const PoolingContext& context) {
  return AveragePooling::Create(config.delivery(), PositionDelivery::VIT);
}

namespace {

const Registration<Pooling, Average> kRegistration("Mean of the patch tokens (global average pooling)", "",
                                                   &CreateAverage);

}  // namespace
}  // namespace graticule
