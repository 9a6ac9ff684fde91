#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/randn.h"
#include "backbones/backbone.h"
#include "backbones/testing.h"
#include "c10/core/GradMode.h"
#include "nn/position_delivery.h"
#include "tests/conformance/conformance.h"
#include "trainer/device.h"

namespace graticule {
namespace {

TokenContract Contract(bool class_token, bool add_to_input, PositionDelivery::Layers layers, int last) {
  TokenContract contract{.class_token = class_token};
  contract.delivery.set_add_to_input(add_to_input);
  contract.delivery.set_layers(layers);
  contract.delivery.set_first_layer(layers != PositionDelivery::NONE && !add_to_input);
  if (last >= 0) contract.delivery.set_last(last);
  return contract;
}

// The paper's rows: default, average pooling, LaPE, PVG, MPVG.
std::vector<TokenContract> Contracts() {
  return {Contract(true, true, PositionDelivery::NONE, -1), Contract(false, true, PositionDelivery::NONE, -1),
          Contract(true, false, PositionDelivery::HIERARCHICAL, -1),
          Contract(false, true, PositionDelivery::HIERARCHICAL, -1),
          Contract(false, true, PositionDelivery::HIERARCHICAL, 0)};
}

std::vector<Size2d> Sizes() { return {{32, 32}, {32, 64}, {64, 32}, {224, 224}}; }

class BackboneConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  // Null where the backbone says that it can't.
  std::unique_ptr<Backbone> Make(Size2d size, const TokenContract& contract, uint64_t seed = 1) {
    at::manual_seed(seed);
    auto backbone = Registry<Backbone>::Create(Example(GetParam()), {.image_size = size, .contract = contract});
    if (backbone.ok()) return *std::move(backbone);
    EXPECT_TRUE(IsUserError(backbone.status())) << backbone.status();
    return nullptr;
  }

  // The first size and contract that works; every backbone has one.
  std::unique_ptr<Backbone> MakeAny(uint64_t seed = 1) {
    for (const Size2d size : Sizes()) {
      for (const TokenContract& contract : Contracts()) {
        size_ = size;
        if (auto backbone = Make(size, contract, seed)) return backbone;
      }
    }
    ADD_FAILURE() << "works with no size and contract";
    return nullptr;
  }

  at::Tensor Images(int64_t batch) { return at::randn({batch, 3, size_.height, size_.width}); }

  Size2d size_;
};

TEST_P(BackboneConformance, TokensHaveTheStatedShapeForEverySizeAndContract) {
  std::set<bool> class_tokens;
  int built = 0;
  for (const Size2d size : Sizes()) {
    for (const TokenContract& contract : Contracts()) {
      const auto backbone = Make(size, contract);
      if (backbone == nullptr) continue;
      ++built;
      EXPECT_EQ(backbone->prefix_tokens() > 0, contract.class_token);
      for (const int64_t batch : {1, 3}) {
        const TokenMap map = backbone->Forward(at::randn({batch, 3, size.height, size.width}));
        EXPECT_EQ(map.grid, backbone->grid());
        EXPECT_EQ(map.prefix_tokens, backbone->prefix_tokens());
        EXPECT_EQ(map.tokens.sizes(),
                  (std::vector<int64_t>{batch, map.prefix_tokens + map.grid.area(), backbone->width()}));
        EXPECT_TRUE(map.tokens.isfinite().all().item<bool>());
        if (map.position.defined()) {
          EXPECT_EQ(map.position.size(0), 1);
          EXPECT_EQ(map.position.dim(), 3);
        }
      }
    }
  }
  EXPECT_GT(built, 0);
}

TEST_P(BackboneConformance, EveryParameterGetsAFiniteGradientUnderEveryContract) {
  for (const TokenContract& contract : Contracts()) {
    for (const Size2d size : Sizes()) {
      const auto backbone = Make(size, contract);
      if (backbone == nullptr) continue;
      const at::Tensor tokens = backbone->Forward(at::randn({2, 3, size.height, size.width})).tokens;
      tokens.mul(at::randn(tokens.sizes())).sum().backward();
      ExpectFiniteGradients(*backbone);
      break;
    }
  }
}

TEST_P(BackboneConformance, ASeedSettlesWeightsAndForwardPass) {
  const auto a = MakeAny(7), b = MakeAny(7), c = MakeAny(8);
  bool differs = false;
  const auto a_parameters = a->Parameters(), b_parameters = b->Parameters(), c_parameters = c->Parameters();
  for (size_t i = 0; i < a_parameters.size(); ++i) {
    EXPECT_TRUE(at::equal(a_parameters[i].tensor, b_parameters[i].tensor)) << a_parameters[i].name;
    differs |= !at::equal(a_parameters[i].tensor, c_parameters[i].tensor);
  }
  EXPECT_TRUE(differs);
  const at::Tensor images = Images(2);
  at::manual_seed(3);
  const at::Tensor first = a->Forward(images).tokens;
  at::manual_seed(3);
  EXPECT_TRUE(at::equal(first, b->Forward(images).tokens));
}

TEST_P(BackboneConformance, EvaluationIsDeterministic) {
  const auto backbone = MakeAny();
  backbone->SetTraining(false);
  const at::Tensor images = Images(2);
  EXPECT_TRUE(at::equal(backbone->Forward(images).tokens, backbone->Forward(images).tokens));
}

// Tokens under autocast to bfloat16, which has 8 bits, against those in fp32; and gradients that are numbers.
TEST_P(BackboneConformance, AutocastComesCloseToSinglePrecision) {
  const auto backbone = MakeAny();
  backbone->SetTraining(false);
  const at::Tensor images = Images(2);
  const at::Tensor expected = backbone->Forward(images).tokens.detach();
  at::Tensor tokens;
  {
    const AutocastScope autocast(Trainer::BF16, c10::kCPU);
    tokens = backbone->Forward(images).tokens.to(at::kFloat);
  }
  EXPECT_LT(tokens.sub(expected).norm().item<double>(), 0.05 * expected.norm().item<double>());
  tokens.square().sum().backward();
  ExpectFiniteGradients(*backbone);
}

// Bit for bit, with everything drawn that the backbone can draw.
TEST_P(BackboneConformance, ActivationCheckpointingChangesNothing) {
  const std::unique_ptr<google::protobuf::Message> config = ExampleMessage(GetParam());
  for (const auto& [name, rate] : std::map<std::string, double>{{"drop_path_rate", 0.5},
                                                                {"attention_dropout", 0.1},
                                                                {"projection_dropout", 0.1},
                                                                {"position_dropout", 0.1},
                                                                {"token_dropout", 0.1},
                                                                {"dropout", 0.1}}) {
    const auto* field = config->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr || field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE) continue;
    config->GetReflection()->SetDouble(config.get(), field, rate);
  }
  google::protobuf::Any packed;
  packed.PackFrom(*config);
  int built = 0;
  for (const TokenContract& contract : Contracts()) {
    for (const Size2d size : Sizes()) {
      const auto make = [&]() -> std::unique_ptr<Backbone> {
        at::manual_seed(1);
        auto backbone = Registry<Backbone>::Create(packed, {.image_size = size, .contract = contract});
        return backbone.ok() ? *std::move(backbone) : nullptr;
      };
      if (make() == nullptr) continue;
      ++built;
      ExpectCheckpointingChangesNothing(make, at::randn({2, 3, size.height, size.width}));
      break;
    }
  }
  EXPECT_GT(built, 0);
}

TEST_P(BackboneConformance, WeightsGoThroughAFile) {
  c10::NoGradGuard no_grad;
  const auto a = MakeAny(1), b = MakeAny(2);
  a->SetTraining(false);
  b->SetTraining(false);
  Restore(Save(*a), *b);
  const at::Tensor images = Images(2);
  EXPECT_TRUE(at::equal(a->Forward(images).tokens, b->Forward(images).tokens));
}

TEST_P(BackboneConformance, ParameterNamesAreUnique) {
  std::set<std::string> names;
  const auto backbone = MakeAny();
  for (const NamedParameter& parameter : backbone->Parameters()) {
    EXPECT_TRUE(names.insert(parameter.name).second) << parameter.name;
    EXPECT_TRUE(parameter.tensor.dim() > 1 || !parameter.decay) << parameter.name;
  }
}

TEST_P(BackboneConformance, RunsOnTheMetaDevice) {
  const int64_t parameters = MakeAny()->ParameterCount();
  MetaScope meta;
  const auto backbone = MakeAny();
  EXPECT_EQ(backbone->ParameterCount(), parameters);
  const TokenMap map = backbone->Forward(Images(2).to(at::kMeta));
  EXPECT_TRUE(map.tokens.is_meta());
  EXPECT_EQ(map.tokens.size(2), backbone->width());
}

TEST_P(BackboneConformance, BadConfigsAndSizesAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    for (const TokenContract& contract : Contracts()) {
      auto backbone = Registry<Backbone>::Create(config, {.image_size = {32, 32}, .contract = contract});
      if (backbone.ok()) {
        EXPECT_TRUE((*backbone)->Forward(at::randn({1, 3, 32, 32})).tokens.isfinite().all().item<bool>());
      } else {
        EXPECT_TRUE(IsUserError(backbone.status())) << backbone.status();
      }
    }
  }
  for (const Size2d size : {Size2d{0, 0}, Size2d{1, 1}, Size2d{31, 33}}) Make(size, Contracts()[1]);
}

// The rows of the MPVG paper's tables and its ablations (Tables 5 and 6, Figure 5), by name, for a model of `depth`
// layers.
std::map<std::string, PositionDelivery> Deliveries(int64_t depth) {
  std::map<std::string, PositionDelivery> deliveries;
  const auto add = [&](const std::string& name, PositionDelivery::Preset preset, const std::string& changes = "") {
    PositionDelivery given;
    given.set_preset(preset);
    if (preset != PositionDelivery::VIT && preset != PositionDelivery::LAPE) given.set_first_layer(false);
    PositionDelivery change;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(changes, &change)) << changes;
    given.MergeFrom(change);
    deliveries[name] = ResolvePositionDelivery(given, PositionDelivery::VIT);
  };
  add("default", PositionDelivery::VIT);
  add("LaPE", PositionDelivery::LAPE);
  add("PVG", PositionDelivery::PVG);
  add("MPVG", PositionDelivery::MPVG);
  for (int64_t k = 1; k < depth; ++k) {
    add("Table 5: pos_" + std::to_string(k), PositionDelivery::MPVG, "last: " + std::to_string(k));
  }
  add("Table 6: layer 0 included", PositionDelivery::MPVG, "first_layer: true");
  add("Table 6: flat", PositionDelivery::MPVG, "layers: FLAT");
  add("Table 6: not added to the input", PositionDelivery::MPVG, "add_to_input: false");
  add("Figure 5: at the last norm only", PositionDelivery::VIT, "last: 0");
  return deliveries;
}

// Numbers of size 1 that follow from the name alone, so that models that differ in some parts agree in the others.
void RandomizeByName(const Module& module) {
  c10::NoGradGuard no_grad;
  for (const NamedParameter& parameter : module.Parameters()) {
    at::manual_seed(std::hash<std::string>()(parameter.name));
    at::Tensor tensor = parameter.tensor;
    const bool is_table = tensor.dim() == 1 || tensor.size(0) == 1;
    tensor.normal_(0, is_table ? 0.3 : 1 / std::sqrt(static_cast<double>(tensor.numel() / tensor.size(0))));
    if (tensor.dim() == 1 && parameter.name.ends_with("weight")) tensor.add_(1);  // scales of norms
  }
}

// The layers' LN' ("pos_norms.L"), and that of the last norm.
std::set<std::string> DeliveryNorms(const Module& module) {
  std::set<std::string> norms;
  for (const NamedParameter& parameter : module.Parameters()) {
    const std::string norm = parameter.name.substr(0, parameter.name.rfind('.'));
    if (norm.starts_with("pos_norms.") || norm == "last_pos_norm") norms.insert(norm);
  }
  return norms;
}

TEST_P(BackboneConformance, EveryDeliveryOfThePositionChangesTheTokensAndTrainsItsNorms) {
  const std::unique_ptr<google::protobuf::Message> config = ExampleMessage(GetParam());
  // With two layers, FLAT and HIERARCHICAL are the same.
  if (const auto* depth = config->GetDescriptor()->FindFieldByName("depth")) {
    config->GetReflection()->SetInt32(config.get(), depth, 3);
  }
  google::protobuf::Any packed;
  packed.PackFrom(*config);
  const auto make = [&](const TokenContract& contract) {
    return Registry<Backbone>::Create(packed, {.image_size = size_, .contract = contract});
  };
  int deliveries = 0;
  for (const bool class_token : {false, true}) {
    const TokenContract lape{.class_token = class_token, .delivery = Deliveries(0).at("LaPE")};
    int64_t depth = 0;
    for (const Size2d size : Sizes()) {
      size_ = size;
      const auto backbone = make(lape);
      if (!backbone.ok()) continue;
      depth = DeliveryNorms(**backbone).size();
      break;
    }
    if (depth == 0) continue;  // it has no such position, or no class token
    const at::Tensor images = Images(2);
    std::map<std::string, at::Tensor> tokens;
    for (const auto& [name, delivery] : Deliveries(depth)) {
      SCOPED_TRACE(name);
      ++deliveries;
      const auto backbone = make({.class_token = class_token, .delivery = delivery});
      ASSERT_TRUE(backbone.ok()) << backbone.status();
      std::set<std::string> norms;
      for (int64_t layer = delivery.first_layer() ? 0 : 1; layer < depth; ++layer) {
        if (delivery.layers() != PositionDelivery::NONE) norms.insert("pos_norms." + std::to_string(layer));
      }
      if (delivery.has_last()) norms.insert("last_pos_norm");
      EXPECT_EQ(DeliveryNorms(**backbone), norms);

      RandomizeByName(**backbone);
      (*backbone)->SetTraining(false);
      const at::Tensor found = (*backbone)->Forward(images).tokens;
      for (const auto& [other, theirs] : tokens) {
        EXPECT_GT(found.sub(theirs).abs().max().item<double>(), 1e-3) << "no other than " << other;
      }
      tokens[name] = found.detach();
      at::manual_seed(1);
      found.mul(at::randn(found.sizes())).sum().backward();
      for (const NamedParameter& parameter : (*backbone)->Parameters()) {
        if (!norms.contains(parameter.name.substr(0, parameter.name.rfind('.')))) continue;
        ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
        EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
        EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 1e-6) << parameter.name;
      }
    }
    PositionDelivery too_deep = Deliveries(0).at("MPVG");
    too_deep.set_last(depth);
    EXPECT_TRUE(IsUserError(make({.class_token = class_token, .delivery = too_deep}).status()));
  }
  if (deliveries == 0) GTEST_SKIP() << "has no position to deliver";
}

INSTANTIATE_TEST_SUITE_P(All, BackboneConformance, testing::ValuesIn(RegisteredPlugins("backbone")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BackboneConformance);

}  // namespace
}  // namespace graticule
