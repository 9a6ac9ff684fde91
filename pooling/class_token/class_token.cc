#include "pooling/class_token/class_token.h"

#include "nn/position_delivery.pb.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Pooling>> ClassTokenPooling::Create(const ClassToken& config,
                                                                   const PoolingContext& context) {
  ASSIGN_OR_RETURN(TokenContract contract,
                   MakeTokenContract(/*class_token=*/true, config.delivery(), PositionDelivery::VIT));
  return std::unique_ptr<Pooling>(new ClassTokenPooling(std::move(contract)));
}

at::Tensor ClassTokenPooling::Forward(const TokenMap& tokens) {
  CHECK_GT(tokens.prefix_tokens, 0) << "the backbone was asked for a class token";
  return tokens.tokens.select(1, 0);
}

namespace {

const Registration<Pooling, ClassToken> kRegistration("The class token (ViT, DeiT, LaPE)", "",
                                                      &ClassTokenPooling::Create);

}  // namespace
}  // namespace graticule
