#include "pooling/pooling.h"

#include "nn/position_delivery.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<TokenContract> MakeTokenContract(bool class_token, const PositionDelivery& delivery,
                                                PositionDelivery::Preset preset) {
  TokenContract contract{.class_token = class_token, .delivery = ResolvePositionDelivery(delivery, preset)};
  FieldErrors errors;
  errors.Add("delivery", CheckPositionDelivery(contract.delivery));
  RETURN_IF_ERROR(errors.ToStatus());
  return contract;
}

}  // namespace graticule
