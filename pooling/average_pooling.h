// The mean of the patch tokens. Average, Pvg and Mpvg share it: they differ in how the position is delivered.
#ifndef GRATICULE_POOLING_AVERAGE_POOLING_H_
#define GRATICULE_POOLING_AVERAGE_POOLING_H_

#include <memory>
#include <string>
#include <utility>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "nn/position_delivery.pb.h"
#include "nn/token_map.h"
#include "pooling/pooling.h"

namespace graticule {

// Asks for no class token. The mean comes after the last norm, and leaves prefix tokens out where there are some.
class AveragePooling : public Pooling {
 public:
  static absl::StatusOr<std::unique_ptr<Pooling>> Create(const PositionDelivery& delivery,
                                                         PositionDelivery::Preset preset);

  TokenContract contract() const override { return contract_; }
  at::Tensor Forward(const TokenMap& tokens) override;
  std::string TimmName() const override { return "avg"; }
  std::string TypeName() const override { return "AveragePooling"; }

 private:
  explicit AveragePooling(TokenContract contract) : contract_(std::move(contract)) {}

  TokenContract contract_;
};

}  // namespace graticule

#endif  // GRATICULE_POOLING_AVERAGE_POOLING_H_
