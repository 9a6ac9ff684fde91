// Pooling plugin graticule.ClassToken.
#ifndef GRATICULE_POOLING_CLASS_TOKEN_CLASS_TOKEN_H_
#define GRATICULE_POOLING_CLASS_TOKEN_CLASS_TOKEN_H_

#include <memory>
#include <string>
#include <utility>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "nn/token_map.h"
#include "pooling/class_token/class_token.pb.h"
#include "pooling/pooling.h"

namespace graticule {

// Asks for a class token, and a distillation token if the config says so, and takes them.
class ClassTokenPooling : public Pooling {
 public:
  // Errors: a delivery that contradicts itself, under "delivery".
  static absl::StatusOr<std::unique_ptr<Pooling>> Create(const ClassToken& config, const PoolingContext& context);

  TokenContract contract() const override { return contract_; }
  at::Tensor Forward(const TokenMap& tokens) override;
  std::string TimmName() const override { return "token"; }
  std::string TypeName() const override { return "ClassTokenPooling"; }

 private:
  explicit ClassTokenPooling(TokenContract contract) : contract_(std::move(contract)) {}

  TokenContract contract_;
};

}  // namespace graticule

#endif  // GRATICULE_POOLING_CLASS_TOKEN_CLASS_TOKEN_H_
