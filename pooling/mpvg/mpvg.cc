#include "pooling/mpvg/mpvg.h"

#include "nn/position_delivery.pb.h"
#include "plugin/registry.h"
#include "pooling/average_pooling.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Pooling>> CreateMpvg(const Mpvg& config, const PoolingContext& context) {
  return AveragePooling::Create(config.delivery(), PositionDelivery::MPVG);
}

namespace {

const Registration<Pooling, Mpvg> kRegistration(
    "Mean of the patch tokens, the position delivered to the layers and the last norm (MPVG)", "", &CreateMpvg);

}  // namespace
}  // namespace graticule
