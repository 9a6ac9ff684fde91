// The interface of the poolings: what becomes of the tokens, and what that asks of the backbone.
#ifndef GRATICULE_POOLING_POOLING_H_
#define GRATICULE_POOLING_POOLING_H_

#include <cstdint>
#include <string>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "nn/module.h"
#include "nn/position_delivery.pb.h"
#include "nn/token_map.h"

namespace graticule {

struct PoolingContext {};

// Comes first: it is made from its config alone, states its contract, and the backbone is built to meet it.
class Pooling : public Module {
 public:
  static constexpr char kKind[] = "pooling";
  using Context = PoolingContext;

  virtual TokenContract contract() const = 0;
  // Makes the weights of a pooling that has some, once the backbone's width is known.
  virtual void Build(int64_t width) {}
  // [B,T,D] tokens in, [B,D] out; [B,2,D] where the contract asks for a distillation token, whose row is the second.
  virtual at::Tensor Forward(const TokenMap& tokens) = 0;
  // What timm calls it (its argument global_pool), "" where timm has no such pooling.
  virtual std::string TimmName() const { return ""; }
};

// The contract of a pooling with a config field `delivery`, which `preset` completes. Errors stand under "delivery".
absl::StatusOr<TokenContract> MakeTokenContract(bool class_token, const PositionDelivery& delivery,
                                                PositionDelivery::Preset preset);

}  // namespace graticule

#endif  // GRATICULE_POOLING_POOLING_H_
