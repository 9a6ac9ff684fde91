// Activation checkpointing on models that the plugins' examples (tests/conformance) don't show, and what it saves.
#include "nn/activation_checkpointing.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "backbones/backbone.h"
#include "backbones/testing.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/position_delivery.h"
#include "nn/testing.h"
#include "nn/token_map.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

struct Model {
  std::string config;  // an Any in text
  bool class_token;
  PositionDelivery::Preset delivery;
  int64_t layers;  // checkpointed ones
};

std::unique_ptr<Backbone> Make(const Model& model, Size2d size) {
  google::protobuf::Any config;
  CHECK(google::protobuf::TextFormat::ParseFromString(model.config, &config)) << model.config;
  at::manual_seed(1);
  auto backbone = Registry<Backbone>::Create(config, Context(size, model.class_token, Preset(model.delivery)));
  CHECK(backbone.ok()) << backbone.status();
  return *std::move(backbone);
}

std::string Any(const std::string& name, const std::string& fields) {
  return "[type.googleapis.com/graticule." + name + "] { " + fields + " drop_path_rate: 0.5 attention_dropout: 0.1 }";
}

TEST(ActivationCheckpointingTest, ChangesNoGradientOfAnyModel) {
  const std::string vit = "patch_size: 8 embed_dim: 24 depth: 3 num_heads: 2 projection_dropout: 0.1 ";
  const std::string swin = "patch_size: 2 embed_dim: 8 depths: [2, 2] num_heads: [2, 2] window_size: 4 ";
  const std::string ceit = "patch_size: 8 stem_width: 8 embed_dim: 16 depth: 3 num_heads: 2 ";
  const std::vector<Model> models = {
      {Any("Vit", vit + "layer_scale: 0.1"), true, PositionDelivery::LAPE, 3},
      {Any("Vit", vit), false, PositionDelivery::MPVG, 3},
      // One parameter for all layers.
      {Any("Vit", vit + "attention_position { rope { kind: MIXED } }"), true, PositionDelivery::VIT, 3},
      {Any("Vit", vit + "attention_position { irpe {} }"), true, PositionDelivery::VIT, 3},
      {Any("Vit", vit + "attention_position { relative_bias {} } conditional_position_after: [0]"), true,
       PositionDelivery::VIT, 3},
      {Any("Swin", swin + "absolute_position: true"), false, PositionDelivery::MPVG, 4},
      {Any("Swin", swin + "conditional_position: true"), false, PositionDelivery::VIT, 4},
      {Any("Nest", "patch_size: 4 embed_dims: [8, 16] depths: [1, 2] num_heads: [1, 2]"), false, PositionDelivery::MPVG,
       3},
      {Any("Ceit", ceit), true, PositionDelivery::LAPE, 3},
      {Any("Ceit", ceit + "average_lca: EACH_TOKEN"), false, PositionDelivery::MPVG, 3},
      {Any("T2tVit", "embed_dim: 16 depth: 2 num_heads: 2 token_dim: 8"), true, PositionDelivery::VIT, 4},
      {Any("T2tVit", "embed_dim: 16 depth: 2 num_heads: 2 token_dim: 8 tokens_type: TRANSFORMER"), false,
       PositionDelivery::MPVG, 4},
      {Any("VitLite", "convolutions { layers: 2 } embed_dim: 16 depth: 2 num_heads: 2"), false, PositionDelivery::MPVG,
       2},
  };
  const Size2d size{32, 32};
  at::manual_seed(3);
  const at::Tensor images = RandomImages(3, size);
  for (const Model& model : models) {
    SCOPED_TRACE(model.config);
    EXPECT_EQ(ExpectCheckpointingChangesNothing([&] { return Make(model, size); }, images), model.layers);
  }
}

// 12 layers of a quarter of DeiT-Ti's tokens; gradients count, the model and its input don't.
TEST(ActivationCheckpointingTest, TakesLessThanHalfOfTheMemory) {
  const Size2d size{112, 112};
  const Model model = {"[type.googleapis.com/graticule.Vit] {}", true, PositionDelivery::VIT, 12};
  const at::Tensor images = RandomImages(8, size);
  const auto peak_bytes = [&](bool checkpointing) {
    const std::unique_ptr<Backbone> backbone = Make(model, size);
    return PeakBytes([&] {
      std::optional<ActivationCheckpointingScope> scope;
      if (checkpointing) scope.emplace();
      backbone->Forward(images).tokens.square().mean().backward();
    });
  };
  const int64_t plain = peak_bytes(false), checkpointed = peak_bytes(true);
  EXPECT_GT(checkpointed, 0);
  EXPECT_LT(2 * checkpointed, plain) << checkpointed << " bytes instead of " << plain;
}

}  // namespace
}  // namespace graticule
