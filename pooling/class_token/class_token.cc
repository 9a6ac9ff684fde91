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
  contract.distillation_token = config.distillation_token();
  return std::unique_ptr<Pooling>(new ClassTokenPooling(std::move(contract)));
}

at::Tensor ClassTokenPooling::Forward(const TokenMap& tokens) {
  CHECK_GE(tokens.prefix_tokens, contract_.distillation_token ? 2 : 1) << "the backbone was asked for these tokens";
  return contract_.distillation_token ? tokens.tokens.narrow(1, 0, 2) : tokens.tokens.select(1, 0);
}

namespace {

const Registration<Pooling, ClassToken> kRegistration("The class token (ViT, DeiT, LaPE)", "",
                                                      &ClassTokenPooling::Create);

}  // namespace
}  // namespace graticule
