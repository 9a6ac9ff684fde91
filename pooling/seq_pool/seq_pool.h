// Pooling plugin graticule.SeqPool.
#ifndef GRATICULE_POOLING_SEQ_POOL_SEQ_POOL_H_
#define GRATICULE_POOLING_SEQ_POOL_SEQ_POOL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "nn/layers.h"
#include "nn/token_map.h"
#include "pooling/pooling.h"
#include "pooling/seq_pool/seq_pool.pb.h"

namespace graticule {

// Σ_i a_i·x_i over the patch tokens x_i, a = softmax_i(w·x_i + b). Parameters attention_pool.weight [1,D] and
// attention_pool.bias [1].
class SequencePooling : public Pooling {
 public:
  // Errors: a delivery that contradicts itself, under "delivery".
  static absl::StatusOr<std::unique_ptr<Pooling>> Create(const SeqPool& config, const PoolingContext& context);

  TokenContract contract() const override { return contract_; }
  void Build(int64_t width) override;
  at::Tensor Forward(const TokenMap& tokens) override;
  std::string TypeName() const override { return "SequencePooling"; }

 private:
  explicit SequencePooling(TokenContract contract) : contract_(std::move(contract)) {}

  TokenContract contract_;
  Linear* attention_pool_ = nullptr;  // null until Build
};

}  // namespace graticule

#endif  // GRATICULE_POOLING_SEQ_POOL_SEQ_POOL_H_
