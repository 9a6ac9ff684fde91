#include "pooling/seq_pool/seq_pool.h"

#include "ATen/ops/matmul.h"
#include "ATen/ops/softmax.h"
#include "nn/position_delivery.pb.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

absl::StatusOr<std::unique_ptr<Pooling>> SequencePooling::Create(const SeqPool& config, const PoolingContext& context) {
  ASSIGN_OR_RETURN(TokenContract contract,
                   MakeTokenContract(/*class_token=*/false, config.delivery(), PositionDelivery::VIT));
  return std::unique_ptr<Pooling>(new SequencePooling(std::move(contract)));
}

void SequencePooling::Build(int64_t width) {
  attention_pool_ = RegisterModule("attention_pool", std::make_unique<Linear>(width, 1));
}

at::Tensor SequencePooling::Forward(const TokenMap& tokens) {
  CHECK(attention_pool_ != nullptr) << "Build comes first";
  const at::Tensor x = tokens.PatchTokens();
  const at::Tensor weights = at::softmax(attention_pool_->Forward(x), 1);  // [B,N,1]
  return at::matmul(weights.transpose(1, 2), x).squeeze(1);
}

namespace {

const Registration<Pooling, SeqPool> kRegistration("Weighted mean of the patch tokens (sequence pooling: CVT, CCT)", "",
                                                   &SequencePooling::Create);

}  // namespace
}  // namespace graticule
