#include "pooling/average_pooling.h"

#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Pooling>> AveragePooling::Create(const PositionDelivery& delivery,
                                                                PositionDelivery::Preset preset) {
  ASSIGN_OR_RETURN(TokenContract contract, MakeTokenContract(/*class_token=*/false, delivery, preset));
  return std::unique_ptr<Pooling>(new AveragePooling(std::move(contract)));
}

at::Tensor AveragePooling::Forward(const TokenMap& tokens) { return tokens.PatchTokens().mean(1); }

}  // namespace graticule
