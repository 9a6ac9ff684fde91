#include "backbones/t2t_vit/t2t_vit.h"

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/eye.h"
#include "ATen/ops/im2col.h"
#include "ATen/ops/matmul.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/softmax.h"
#include "ATen/record_function.h"
#include "absl/strings/str_cat.h"
#include "backbones/testing.h"
#include "gtest/gtest.h"
#include "nn/autocast.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/testing.h"

namespace graticule {
namespace {

// Larger weights, and the random features of the performer grow beyond the tests' tolerances.
constexpr double kStd = 0.2;

T2tVit Sized(int embed_dim, int depth, int num_heads, double mlp_ratio) {
  T2tVit config;
  config.set_embed_dim(embed_dim);
  config.set_depth(depth);
  config.set_num_heads(num_heads);
  config.set_mlp_ratio(mlp_ratio);
  return config;
}

T2tVit SmallConfig(T2tVit::TokensType type = T2tVit::PERFORMER) {
  T2tVit config = Sized(12, 4, 2, 2);
  config.set_token_dim(6);
  config.set_tokens_type(type);
  config.set_token_dropout(0);
  return config;
}

// ---- Published sizes ------------------------------------------------------------------------------------------------

struct Size {
  std::string name;
  T2tVit config;
  int64_t parameters;  // with a head of 1000 classes
  int64_t trained;
  int64_t macs;      // of the official code, by torch.utils.flop_counter
  double published;  // in G
};

std::vector<Size> Sizes() {
  std::vector<Size> sizes = {
      {"T2T-ViT-7", T2tVit(), 4'310'222, 4'255'694, 1'146'863'616, 1.1},
      {"T2T-ViT-10", Sized(256, 10, 4, 2), 5'889'230, 5'834'702, 1'516'328'448, 1.5},
      {"T2T-ViT-12", Sized(256, 12, 4, 2), 6'941'902, 6'887'374, 1'762'638'336, 1.8},
      {"T2T-ViT-14", Sized(384, 14, 6, 3), 21'545'550, 21'465'806, 4'783'468'544, 4.8},
      {"T2T-ViT_t-14", Sized(384, 14, 6, 3), 21'541'070, 21'465'422, 6'088'721'920, 6.1},
  };
  sizes.back().config.set_tokens_type(T2tVit::TRANSFORMER);
  return sizes;
}

TEST(T2tVitTest, HasThePublishedParametersAndMultiplyAdds) {
  const MetaScope meta;
  for (const Size& size : Sizes()) {
    SCOPED_TRACE(size.name);
    const auto backbone = Build(size.config, Context({224, 224}, true));
    const int64_t head = backbone->width() * 1000;
    int64_t trained = head + 1000;
    for (const NamedParameter& parameter : backbone->Parameters()) {
      if (parameter.trainable) trained += parameter.tensor.numel();
    }
    EXPECT_EQ(backbone->ParameterCount() + head + 1000, size.parameters);
    EXPECT_EQ(trained, size.trained);

    backbone->SetTraining(false);
    EXPECT_EQ(CountMacs(*backbone, {224, 224}).total + head, size.macs);
    EXPECT_EQ(std::round(size.macs / 1e8) / 10, size.published);
  }
}

TEST(T2tVitTest, HasThePublishedParametersWithEveryDelivery) {
  const MetaScope meta;
  const auto parameters = [](bool class_token, PositionDelivery::Preset preset, int64_t classes) {
    const auto backbone = Build(T2tVit(), Context({224, 224}, class_token, Preset(preset)));
    return backbone->ParameterCount() + 257 * classes;
  };
  EXPECT_EQ(parameters(true, PositionDelivery::LAPE, 1000), 4'313'806);
  EXPECT_EQ(parameters(false, PositionDelivery::PVG, 1000), 4'312'782);
  EXPECT_EQ(parameters(false, PositionDelivery::MPVG, 1000), 4'313'294);
  EXPECT_EQ(parameters(true, PositionDelivery::VIT, 100), 4'078'922);
}

// ---- The start ------------------------------------------------------------------------------------------------------

TEST(T2tVitTest, StartsAsTheOfficialCode) {
  const auto backbone = Build(T2tVit(), Context({224, 224}, true));
  const auto weights = ByName(*backbone);
  EXPECT_NEAR(weights.at("blocks.3.attn.qkv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("tokens_to_token.attention2.kqv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("cls_token").std().item<double>(), 0.02, 0.003);
  EXPECT_EQ(weights.at("tokens_to_token.project.bias").abs().max().item<double>(), 0);
  EXPECT_TRUE(weights.at("tokens_to_token.attention1.norm1.weight").eq(1).all().item<bool>());
  const at::Tensor a = weights.at("tokens_to_token.attention1.w"), b = weights.at("tokens_to_token.attention2.w");
  for (const at::Tensor& w : {a, b}) {
    ASSERT_EQ(w.sizes(), (at::IntArrayRef{32, 64}));
    EXPECT_LT(LargestDifference(w.matmul(w.t()), 32 * at::eye(32)), 1e-4);
  }
  EXPECT_GT(LargestDifference(a, b), 1);

  const at::Tensor position = weights.at("pos_embed");
  ASSERT_EQ(position.sizes(), (at::IntArrayRef{1, 197, 256}));
  EXPECT_NEAR(position[0][0][1].item<double>(), 1, 1e-6);
  EXPECT_NEAR(position[0][14][10].item<double>(), std::sin(14 / std::pow(10000, 10 / 256.)), 1e-6);
  EXPECT_NEAR(position[0][196][101].item<double>(), std::cos(196 / std::pow(10000, 100 / 256.)), 1e-6);
}

TEST(T2tVitTest, TheSinusoidStartsAtTheFirstPatchWithoutAClassToken) {
  const auto backbone = Build(SmallConfig(), Context({32, 48}, false, Preset(PositionDelivery::PVG)));
  const at::Tensor position = ByName(*backbone).at("pos_embed");
  ASSERT_EQ(position.sizes(), (at::IntArrayRef{1, 6, 12}));
  EXPECT_NEAR(position[0][0][0].item<double>(), 0, 1e-6);
  EXPECT_NEAR(position[0][5][0].item<double>(), std::sin(5), 1e-6);
}

TEST(T2tVitTest, DecaysMatricesAndTrainsAllButTheFixedTables) {
  const std::set<std::string> fixed = {"pos_embed", "tokens_to_token.attention1.w", "tokens_to_token.attention2.w"};
  const auto backbone = Build(SmallConfig(), Context({32, 32}, true, Preset(PositionDelivery::LAPE)));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    const bool matrix = parameter.name.ends_with("weight") && parameter.name.find("norm") == std::string::npos;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    EXPECT_EQ(parameter.trainable, !fixed.contains(parameter.name)) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

// The model written out in double, with the kernel's N×N weights in place of the performer's factored sums.
class PlainT2t : public PlainModel {
 public:
  PlainT2t(const Module& module, const T2tVit& config, Size2d image, const PositionDelivery& delivery)
      : PlainModel(module, 1e-5), config_(config), image_(image), delivery_(delivery) {}

  // images [B,3,H,W] to tokens [B,T,D].
  at::Tensor Tokens(const at::Tensor& images) const {
    const Positions positions = Deliver(W("pos_embed"), delivery_, config_.depth());
    at::Tensor x = Sum(WithClassToken(TokensToToken(images.to(at::kDouble)), "cls_token"), positions.at_input);
    for (int l = 0; l < config_.depth(); ++l) {
      x = Block(x, absl::StrCat("blocks.", l), positions.at_layers[l], {.heads = config_.num_heads()});
    }
    return Sum(Norm(x, "norm"), positions.at_last_norm);
  }

 private:
  at::Tensor TokensToToken(const at::Tensor& images) const {
    at::Tensor x = TokenLayer(Windows(images, 7, 4, 2), "tokens_to_token.attention1.");
    x = TokenLayer(Windows(Map(x, 4), 3, 2, 1), "tokens_to_token.attention2.");
    return Affine(Windows(Map(x, 8), 3, 2, 1), "tokens_to_token.project");
  }

  static at::Tensor Windows(const at::Tensor& map, int64_t kernel, int64_t stride, int64_t padding) {
    return at::im2col(map, {kernel, kernel}, {1, 1}, {padding, padding}, {stride, stride}).transpose(1, 2);
  }

  // Tokens of `size` pixels as a map [B,C,h,w].
  at::Tensor Map(const at::Tensor& tokens, int64_t size) const {
    return tokens.transpose(1, 2).reshape({tokens.size(0), -1, image_.height / size, image_.width / size});
  }

  at::Tensor TokenLayer(const at::Tensor& x, const std::string& name) const {
    const bool performer = config_.tokens_type() == T2tVit::PERFORMER;
    const at::Tensor three = Affine(Norm(x, name + "norm1"), name + (performer ? "kqv" : "attn.qkv"));
    const std::vector<at::Tensor> parts = three.chunk(3, -1);
    const at::Tensor &k = parts[performer ? 0 : 1], &q = parts[performer ? 1 : 0], &v = parts[2];
    at::Tensor attended;
    if (performer) {
      const at::Tensor& w = W(name + "w");
      const auto phi = [&](const at::Tensor& u) {
        const at::Tensor half = u.pow(2).sum(-1, /*keepdim=*/true) / 2;
        return (u.matmul(w.t()) - half).exp() / std::sqrt(static_cast<double>(w.size(0)));
      };
      const at::Tensor kernel = phi(q).matmul(phi(k).transpose(1, 2));
      attended = kernel.matmul(v) / (kernel.sum(-1, /*keepdim=*/true) + 1e-8);
    } else {
      const at::Tensor logits = q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(x.size(-1)));
      attended = at::softmax(logits, -1).matmul(v);
    }
    const at::Tensor y = v + Affine(attended, name + (performer ? "proj" : "attn.proj"));
    const at::Tensor hidden = Gelu(Affine(Norm(y, name + "norm2"), name + (performer ? "mlp.0" : "mlp.fc1")));
    return y + Affine(hidden, name + (performer ? "mlp.2" : "mlp.fc2"));
  }

  T2tVit config_;
  Size2d image_;
  PositionDelivery delivery_;
};

struct Case : DeliveryCase {
  T2tVit::TokensType type = T2tVit::PERFORMER;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const DeliveryCase& c : DeliveryCases()) cases.push_back({c});
  cases.push_back({{"transformer", false, Preset(PositionDelivery::MPVG)}, T2tVit::TRANSFORMER});
  return cases;
}

constexpr Size2d kImage = {32, 48};

TEST(T2tVitTest, ComputesTheEquations) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const T2tVit config = SmallConfig(c.type);
    const auto backbone = Build(config, Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone, kStd);
    const at::Tensor images = RandomImages(2, kImage);
    const TokenMap map = backbone->Forward(images);
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, c.class_token + 6, 12}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    const at::Tensor expected = PlainT2t(*backbone, config, kImage, c.delivery).Tokens(images);
    EXPECT_LT(LargestDifference(map.tokens, expected), kRounding);
  }
}

TEST(T2tVitTest, GradientsReachEveryTrainedParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.type), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone, kStd);
    ExpectGradients(*backbone, RandomImages(2, kImage));
  }
}

// The types of the tensors that each operator was called with.
std::map<std::string, std::set<at::ScalarType>>& OperandTypes() {
  static auto* types = new std::map<std::string, std::set<at::ScalarType>>;
  return *types;
}

std::unique_ptr<at::ObserverContext> NoteOperands(const at::RecordFunction& call) {
  for (const c10::IValue& input : call.inputs()) {
    if (input.isTensor() && input.toTensor().defined())
      OperandTypes()[call.name()].insert(input.toTensor().scalar_type());
  }
  return nullptr;
}

TEST(T2tVitTest, ThePerformerIsComputedInSinglePrecisionUnderAutocast) {
  const auto backbone = Build(SmallConfig(), Context(kImage, true));
  Randomize(*backbone, kStd);
  const at::Tensor images = RandomImages(2, kImage);
  const at::Tensor expected = backbone->Forward(images).tokens;

  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&NoteOperands).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  at::Tensor tokens;
  {
    const Autocast autocast(at::kBFloat16, at::kCPU);
    tokens = backbone->Forward(images).tokens;
  }
  at::removeCallback(handle);
  EXPECT_TRUE(OperandTypes()["aten::linear"].contains(at::kBFloat16));
  EXPECT_EQ(OperandTypes()["aten::exp"], (std::set<at::ScalarType>{at::kFloat}));
  EXPECT_EQ(OperandTypes()["aten::bmm"], (std::set<at::ScalarType>{at::kFloat}));
  EXPECT_LT(LargestDifference(tokens, expected), 0.1);
}

// ---- The official code ----------------------------------------------------------------------------------------------

T2tVit FixtureConfig(double mlp_ratio) {
  T2tVit config = Sized(24, 2, 3, mlp_ratio);
  config.set_token_dim(6);
  return config;
}

TEST(T2tVitParityTest, Performer) {
  ExpectParity(Fixture("t2t_vit", "performer"), FixtureConfig(2), Context({48, 48}, true));
}

TEST(T2tVitParityTest, TransformerWithQkvBias) {
  T2tVit config = FixtureConfig(3);
  config.set_tokens_type(T2tVit::TRANSFORMER);
  config.set_qkv_bias(true);
  ExpectParity(Fixture("t2t_vit", "transformer"), config, Context({32, 32}, true));
}

TEST(T2tVitParityTest, TheSinusoid) {
  const auto backbone = Build(FixtureConfig(2), Context({48, 48}, true));
  EXPECT_LT(LargestDifference(ByName(*backbone).at("pos_embed"), Fixture("t2t_vit", "performer").Find("pos_embed")),
            1e-6);
}

// ---- Positions of checkpoints ---------------------------------------------------------------------------------------

TEST(T2tVitTest, AdaptsTheCheckpointsPositions) {
  const at::Tensor table = at::randn({1, 1 + 4, 12});
  const auto without_class_token = Build(SmallConfig(), Context({32, 32}, false));
  EXPECT_TRUE(without_class_token->Adapt("pos_embed", table).equal(table.narrow(1, 1, 4)));

  const auto larger = Build(SmallConfig(), Context({64, 96}, true));
  const at::Tensor constant = at::cat({table.narrow(1, 0, 1), at::ones({1, 4, 12})}, 1);
  const at::Tensor adapted = larger->Adapt("pos_embed", constant);
  ASSERT_EQ(adapted.sizes(), (at::IntArrayRef{1, 1 + 24, 12}));
  EXPECT_TRUE(adapted.narrow(1, 0, 1).equal(table.narrow(1, 0, 1)));
  EXPECT_LT(LargestDifference(adapted.narrow(1, 1, 24), at::ones({1, 24, 12})), 1e-5);

  EXPECT_FALSE(larger->Adapt("cls_token", table).defined());
  EXPECT_FALSE(larger->Adapt("pos_embed", at::randn({1, 5, 16})).defined());
}

// ---- Modes and errors -----------------------------------------------------------------------------------------------

TEST(T2tVitTest, EachDropoutActsInTrainModeOnly) {
  const std::vector<std::function<void(T2tVit&)>> rates = {
      [](T2tVit& config) { config.set_token_dropout(0.1); },
      [](T2tVit& config) { config.set_position_dropout(0.1); },
      [](T2tVit& config) { config.set_projection_dropout(0.1); },
      [](T2tVit& config) { config.set_attention_dropout(0.1); },
      [](T2tVit& config) { config.set_drop_path_rate(0.5); },
  };
  const at::Tensor images = RandomImages(4, kImage);
  for (size_t i = 0; i < rates.size(); ++i) {
    SCOPED_TRACE(i);
    T2tVit config = SmallConfig();
    const auto differs = [&] {
      const auto backbone = Build(config, Context(kImage, false, Preset(PositionDelivery::MPVG)));
      Randomize(*backbone, kStd);
      backbone->SetTraining(false);
      EXPECT_TRUE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
      backbone->SetTraining(true);
      return !backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens);
    };
    EXPECT_FALSE(differs());
    rates[i](config);
    EXPECT_TRUE(differs());
  }
}

TEST(T2tVitErrorsTest, ImagesThatAreNoMultipleOfSixteen) {
  const auto errors = Errors(T2tVit(), Context({224, 232}, true));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(errors.at(""),
            "tokens of 16×16 pixels don't tile images of 224×232 (height×width); the nearest sizes that they tile are "
            "height 224 and width 224 or 240");
}

TEST(T2tVitErrorsTest, AllMistakesComeTogether) {
  T2tVit config = Sized(13, 2'000'000'000, 4, -1);
  config.set_token_dim(1);
  config.set_norm_epsilon(0);
  config.set_class_token_std(-1);
  config.set_drop_path_rate(1);
  config.set_token_dropout(-0.1);
  config.set_position_dropout(2);
  config.set_projection_dropout(NAN);
  config.set_attention_dropout(-1);
  BackboneContext context = Context({224, 224}, true);
  context.contract.distillation_token = true;
  EXPECT_EQ(ErrorPaths(config, context),
            (std::set<std::string>{"", "embed_dim", "depth", "num_heads", "mlp_ratio", "token_dim", "norm_epsilon",
                                   "class_token_std", "drop_path_rate", "token_dropout", "position_dropout",
                                   "projection_dropout", "attention_dropout"}));
  T2tVit wide;
  wide.set_embed_dim(2'000'000'000);
  wide.set_token_dim(2'000'000'000);
  const auto errors = Errors(wide, Context({224, 224}, true));
  EXPECT_TRUE(errors.contains("embed_dim"));
  EXPECT_TRUE(errors.contains("token_dim"));
}

TEST(T2tVitErrorsTest, ADeliveryOfALayerThatIsNotThere) {
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(7);
  EXPECT_TRUE(Errors(T2tVit(), Context({224, 224}, false, delivery)).contains("depth"));
}

}  // namespace
}  // namespace graticule
