#include "backbones/vit/vit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ATen/ops/linear.h"
#include "ATen/ops/randn.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

BackboneContext Context(Size2d image_size, bool class_token, const PositionDelivery& delivery) {
  return {.image_size = image_size, .contract = {.class_token = class_token, .delivery = delivery}};
}

PositionDelivery Preset(PositionDelivery::Preset preset) { return ResolvePositionDelivery({}, preset); }

std::unique_ptr<Backbone> Build(const Vit& config, const BackboneContext& context) {
  auto backbone = Registry<Backbone>::Create(config, context);
  CHECK(backbone.ok()) << backbone.status();
  return std::move(*backbone);
}

std::map<std::string, at::Tensor> ByName(const Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const NamedParameter& parameter : module.Parameters()) tensors[parameter.name] = parameter.tensor;
  return tensors;
}

// Weights under which every part of the model matters.
void Randomize(const Module& module) {
  c10::NoGradGuard no_grad;
  for (const NamedParameter& parameter : module.Parameters()) {
    at::Tensor tensor = parameter.tensor;
    if (!parameter.trainable) continue;
    tensor.normal_(0, 0.4);
    const bool is_norm_scale = tensor.dim() == 1 && parameter.name.ends_with("weight");
    if (is_norm_scale) tensor.add_(1);
  }
}

// ---- Parameter counts -----------------------------------------------------------------------------------------------

struct Count {
  int width;
  int heads;
  PositionDelivery::Preset preset;
  int64_t parameters;  // with a head of 1000 classes
};

// The paper's models, to the last parameter.
TEST(VitTest, HasThePublishedNumberOfParameters) {
  const std::vector<Count> counts = {
      {192, 3, PositionDelivery::VIT, 5'717'416},   {192, 3, PositionDelivery::LAPE, 5'722'024},
      {192, 3, PositionDelivery::PVG, 5'721'256},   {192, 3, PositionDelivery::MPVG, 5'721'640},
      {384, 6, PositionDelivery::VIT, 22'050'664},  {384, 6, PositionDelivery::LAPE, 22'059'880},
      {384, 6, PositionDelivery::PVG, 22'058'344},  {384, 6, PositionDelivery::MPVG, 22'059'112},
      {768, 12, PositionDelivery::VIT, 86'567'656}, {768, 12, PositionDelivery::LAPE, 86'586'088},
      {768, 12, PositionDelivery::PVG, 86'583'016}, {768, 12, PositionDelivery::MPVG, 86'584'552},
  };
  const MetaScope meta;
  for (const Count& count : counts) {
    Vit config;
    config.set_embed_dim(count.width);
    config.set_num_heads(count.heads);
    const bool class_token = count.preset == PositionDelivery::VIT || count.preset == PositionDelivery::LAPE;
    const auto backbone = Build(config, Context({224, 224}, class_token, Preset(count.preset)));
    const int64_t head = count.width * 1000 + 1000;
    EXPECT_EQ(backbone->ParameterCount() + head, count.parameters)
        << count.width << " " << PositionDelivery::Preset_Name(count.preset);
  }
}

TEST(VitTest, AveragePoolingWithoutClassTokenHasThePublishedNumberOfParameters) {
  const MetaScope meta;
  const auto backbone = Build(Vit(), Context({224, 224}, false, Preset(PositionDelivery::VIT)));
  EXPECT_EQ(backbone->ParameterCount() + 193'000, 5'717'032);
}

// DeiT's and iRPE's papers, and timm's RoPE-ViT.
TEST(VitTest, DistilledAndEncodedModelsHaveThePublishedNumberOfParameters) {
  const MetaScope meta;
  const auto count = [](int width, int heads, const std::string& text, bool distilled) {
    Vit config;
    config.set_embed_dim(width);
    config.set_num_heads(heads);
    CHECK(google::protobuf::TextFormat::MergeFromString(text, &config));
    BackboneContext context = Context({224, 224}, true, Preset(PositionDelivery::VIT));
    context.contract.distillation_token = distilled;
    return Build(config, context)->ParameterCount() + (distilled ? 2 : 1) * (width * 1000 + 1000);
  };
  EXPECT_EQ(count(192, 3, "", true), 5'910'800);
  EXPECT_EQ(count(384, 6, "", true), 22'436'432);
  EXPECT_EQ(count(768, 12, "", true), 87'338'192);
  // 5.76 M and 22.09 M: 12 tables of 64×50.
  EXPECT_EQ(count(192, 3, "attention_position { irpe {} }", false), 5'717'416 + 12 * 64 * 50);
  EXPECT_EQ(count(384, 6, "attention_position { irpe {} }", false), 22'050'664 + 12 * 64 * 50);
  const std::string rope = "position: NONE layer_scale: 1e-4 attention_position { rope ";
  EXPECT_EQ(count(384, 6, rope + "{} }", false), 21'984'232);
  EXPECT_EQ(count(384, 6, rope + "{ kind: MIXED } }", false), 21'988'840);
}

TEST(VitTest, DecaysMatricesOnly) {
  Vit config;
  config.set_depth(2);
  const auto backbone = Build(config, Context({32, 32}, true, Preset(PositionDelivery::LAPE)));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    const bool matrix = parameter.name.ends_with("weight") && parameter.name.find("norm") == std::string::npos;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    EXPECT_TRUE(parameter.trainable) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

using Matrix = std::vector<std::vector<double>>;  // [T][D]

// The model written out in plain loops, in double, for a single image.
class SlowVit {
 public:
  SlowVit(const Module& module, int patch, int depth, int heads, bool class_token, PositionDelivery delivery)
      : weights_(ByName(module)),
        patch_(patch),
        depth_(depth),
        heads_(heads),
        class_token_(class_token),
        delivery_(delivery) {}

  Matrix Tokens(const at::Tensor& image) const {
    Matrix x = Patches(image);
    if (class_token_) x.insert(x.begin(), Rows("cls_token")[0]);
    const Matrix pos_0 = weights_.contains("pos_embed") ? Rows("pos_embed") : Matrix();
    if (delivery_.add_to_input() && !pos_0.empty()) x = Sum(x, pos_0);

    std::vector<Matrix> pos = {pos_0};  // pos[k] = pos_k, where pos_k is what layer k gets
    Matrix previous = pos_0;
    for (int l = 0; l < depth_; ++l) {
      const std::string block = absl::StrCat("blocks.", l, ".");
      Matrix normed = Norm(x, block + "norm1");
      const bool layer_gets_position =
          delivery_.layers() != PositionDelivery::NONE && (l > 0 || delivery_.first_layer());
      if (layer_gets_position) {
        const Matrix& from = delivery_.layers() == PositionDelivery::FLAT ? pos_0 : previous;
        previous = Norm(from, absl::StrCat("pos_norms.", l));
        normed = Sum(normed, previous);
      }
      if (l > 0) pos.push_back(previous);
      x = Sum(x, SelfAttention(normed, block + "attn."));
      x = Sum(x, MultiLayerPerceptron(Norm(x, block + "norm2"), block + "mlp."));
    }
    Matrix y = Norm(x, "norm");
    if (delivery_.has_last()) y = Sum(y, Norm(pos[delivery_.last()], "last_pos_norm"));
    return y;
  }

 private:
  Matrix Rows(const std::string& name) const {
    const at::Tensor tensor = weights_.at(name).detach();
    const at::Tensor flat = tensor.reshape({-1, tensor.size(-1)}).to(at::kDouble).contiguous();
    Matrix rows(flat.size(0), std::vector<double>(flat.size(1)));
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t c = 0; c < rows[r].size(); ++c) rows[r][c] = flat.data_ptr<double>()[r * rows[r].size() + c];
    }
    return rows;
  }

  static Matrix Sum(Matrix a, const Matrix& b) {
    for (size_t t = 0; t < a.size(); ++t) {
      for (size_t i = 0; i < a[t].size(); ++i) a[t][i] += b[t][i];
    }
    return a;
  }

  Matrix Patches(const at::Tensor& image) const {
    const auto pixels = image.accessor<float, 3>();
    const auto kernel = weights_.at("patch_embed.proj.weight").accessor<float, 4>();
    const Matrix bias = Rows("patch_embed.proj.bias");
    Matrix tokens;
    for (int y = 0; y < image.size(1); y += patch_) {
      for (int x = 0; x < image.size(2); x += patch_) {
        tokens.push_back(bias[0]);
        for (int d = 0; d < kernel.size(0); ++d) {
          for (int c = 0; c < kernel.size(1); ++c) {
            for (int i = 0; i < patch_; ++i) {
              for (int j = 0; j < patch_; ++j) tokens.back()[d] += kernel[d][c][i][j] * pixels[c][y + i][x + j];
            }
          }
        }
      }
    }
    return tokens;
  }

  Matrix Norm(Matrix x, const std::string& name) const {
    const std::vector<double> scale = Rows(name + ".weight")[0], shift = Rows(name + ".bias")[0];
    for (std::vector<double>& row : x) {
      double mean = 0, variance = 0;
      for (const double value : row) mean += value / row.size();
      for (const double value : row) variance += (value - mean) * (value - mean) / row.size();
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = (row[i] - mean) / std::sqrt(variance + 1e-6) * scale[i] + shift[i];
      }
    }
    return x;
  }

  Matrix Affine(const Matrix& x, const std::string& name) const {
    const Matrix weight = Rows(name + ".weight");
    Matrix y;
    for (const std::vector<double>& row : x) {
      y.push_back(weights_.contains(name + ".bias") ? Rows(name + ".bias")[0] : std::vector<double>(weight.size()));
      for (size_t o = 0; o < weight.size(); ++o) {
        for (size_t i = 0; i < row.size(); ++i) y.back()[o] += weight[o][i] * row[i];
      }
    }
    return y;
  }

  Matrix SelfAttention(const Matrix& x, const std::string& name) const {
    const size_t width = x[0].size(), size = width / heads_;
    const Matrix qkv = Affine(x, name + "qkv");
    Matrix y(x.size(), std::vector<double>(width));
    for (size_t first = 0; first < width; first += size) {  // of a head's channels
      for (size_t t = 0; t < x.size(); ++t) {
        std::vector<double> attention(x.size());
        double sum = 0;
        for (size_t s = 0; s < x.size(); ++s) {
          double dot = 0;
          for (size_t i = first; i < first + size; ++i) dot += qkv[t][i] * qkv[s][width + i];
          sum += attention[s] = std::exp(dot / std::sqrt(size));
        }
        for (size_t s = 0; s < x.size(); ++s) {
          for (size_t i = first; i < first + size; ++i) y[t][i] += attention[s] / sum * qkv[s][2 * width + i];
        }
      }
    }
    return Affine(y, name + "proj");
  }

  Matrix MultiLayerPerceptron(const Matrix& x, const std::string& name) const {
    Matrix hidden = Affine(x, name + "fc1");
    for (std::vector<double>& row : hidden) {
      for (double& value : row) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
    }
    return Affine(hidden, name + "fc2");
  }

  std::map<std::string, at::Tensor> weights_;
  int patch_, depth_, heads_;
  bool class_token_;
  PositionDelivery delivery_;
};

struct Case {
  std::string name;
  bool class_token;
  PositionDelivery delivery;
  PositionEncoding::Kind position = PositionEncoding::LEARNED;
};

// Every row and ablation of the papers, at depth 4: layers 0 to 3.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, bool class_token, PositionDelivery::Preset preset,
                       const std::function<void(PositionDelivery&)>& change = nullptr) {
    PositionDelivery delivery = Preset(preset);
    if (change) change(delivery);
    cases.push_back({name, class_token, delivery});
  };
  add("default", true, PositionDelivery::VIT);
  add("LaPE", true, PositionDelivery::LAPE);
  add("PVG", false, PositionDelivery::PVG);
  add("PVG with class token", true, PositionDelivery::PVG);
  add("MPVG", false, PositionDelivery::MPVG);
  for (const int k : {3, 2, 1}) {
    add(absl::StrCat("Table 5, pos_", k), false, PositionDelivery::PVG, [&](auto& d) { d.set_last(k); });
  }
  add("Table 6, layer 0 included", false, PositionDelivery::MPVG, [](auto& d) { d.set_first_layer(true); });
  add("Table 6, flat", false, PositionDelivery::MPVG, [](auto& d) { d.set_layers(PositionDelivery::FLAT); });
  add("Table 6, not added to the input", false, PositionDelivery::MPVG, [](auto& d) { d.set_add_to_input(false); });
  add("Figure 5, average pooling alone", false, PositionDelivery::VIT);
  add("Figure 5, at the last norm only", false, PositionDelivery::VIT, [](auto& d) { d.set_last(0); });
  add("flat, pos_2 at the last norm", false, PositionDelivery::PVG, [](auto& d) {
    d.set_layers(PositionDelivery::FLAT);
    d.set_last(2);
  });
  add("LaPE, pos_3 at the last norm", true, PositionDelivery::LAPE, [](auto& d) { d.set_last(3); });
  for (const auto kind : {PositionEncoding::SINUSOID_1D, PositionEncoding::SINUSOID_2D,
                          PositionEncoding::SINUSOID_2D_BLOCKS, PositionEncoding::NONE}) {
    const auto preset = kind == PositionEncoding::NONE ? PositionDelivery::VIT : PositionDelivery::MPVG;
    cases.push_back({PositionEncoding::Kind_Name(kind), true, Preset(preset), kind});
  }
  return cases;
}

constexpr Size2d kImage = {8, 12};  // 2×3 patches

Vit SmallConfig(PositionEncoding::Kind position) {
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(8);
  config.set_depth(4);
  config.set_num_heads(2);
  config.set_mlp_ratio(2);
  config.set_position(position);
  return config;
}

TEST(VitTest, ComputesTheEquations) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.position), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor images = at::randn({2, 3, kImage.height, kImage.width});
    const TokenMap map = backbone->Forward(images);
    const int64_t rows = (c.class_token ? 1 : 0) + 6;
    ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, rows, 8}));
    EXPECT_EQ(map.prefix_tokens, c.class_token ? 1 : 0);
    EXPECT_EQ(map.grid, (Size2d{2, 3}));
    EXPECT_EQ(map.position.defined(), c.position != PositionEncoding::NONE);
    const SlowVit slow(*backbone, 4, 4, 2, c.class_token, c.delivery);
    for (int image = 0; image < 2; ++image) {
      const Matrix expected = slow.Tokens(images[image]);
      double worst = 0;
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t i = 0; i < 8; ++i) {
          worst = std::max(worst, std::abs(map.tokens[image][t][i].item<double>() - expected[t][i]));
        }
      }
      EXPECT_LT(worst, 2e-5);
    }
  }
}

TEST(VitTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.position), Context(kImage, c.class_token, c.delivery));
    Randomize(*backbone);
    const at::Tensor tokens = backbone->Forward(at::randn({2, 3, kImage.height, kImage.width})).tokens;
    tokens.mul(at::randn(tokens.sizes())).sum().backward();
    for (const NamedParameter& parameter : backbone->Parameters()) {
      EXPECT_EQ(parameter.trainable, parameter.tensor.grad().defined()) << parameter.name;
      if (!parameter.trainable) continue;
      EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
      EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 0) << parameter.name;
    }
  }
}

// ---- timm -----------------------------------------------------------------------------------------------------------

Safetensors Fixture(const std::string& name) {
  auto fixture = ReadSafetensors(absl::StrCat("backbones/vit/testdata/", name, ".safetensors"));
  CHECK(fixture.ok()) << fixture.status();
  return *std::move(fixture);
}

// timm's model and this one, with the same weights: tokens, logits, and the gradients of the mean of the squared
// logits.
void ExpectParity(const std::string& name, const Vit& config, const BackboneContext& context) {
  const Safetensors fixture = Fixture(name);
  const auto backbone = Build(config, context);
  at::Tensor head_weight = fixture.Find("head.weight").requires_grad_(true);
  at::Tensor head_bias = fixture.Find("head.bias").requires_grad_(true);
  std::map<std::string, at::Tensor> parameters = ByName(*backbone);
  {
    c10::NoGradGuard no_grad;
    for (auto& [parameter, tensor] : parameters) {
      const at::Tensor loaded = fixture.Find(parameter);
      ASSERT_TRUE(loaded.defined()) << "timm has no " << parameter;
      ASSERT_EQ(loaded.sizes(), tensor.sizes()) << parameter;
      tensor.copy_(loaded);
    }
  }
  parameters["head.weight"] = head_weight;
  parameters["head.bias"] = head_bias;
  for (const auto& [tensor, unused] : fixture.tensors) {
    const bool is_weight =
        tensor != "images" && tensor != "tokens" && tensor != "logits" && !tensor.starts_with("grad/");
    EXPECT_TRUE(!is_weight || parameters.contains(tensor)) << "not in this model: " << tensor;
  }

  const TokenMap map = backbone->Forward(fixture.Find("images"));
  EXPECT_LT(map.tokens.sub(fixture.Find("tokens")).abs().max().item<double>(), 5e-5);
  const at::Tensor pooled = context.contract.class_token ? map.tokens.select(1, 0) : map.tokens.mean(1);
  const at::Tensor logits = at::linear(pooled, head_weight, head_bias);
  EXPECT_LT(logits.sub(fixture.Find("logits")).abs().max().item<double>(), 5e-5);

  logits.square().mean().backward();
  for (const auto& [parameter, tensor] : parameters) {
    const at::Tensor expected = fixture.Find(absl::StrCat("grad/", parameter));
    const double difference = tensor.grad().sub(expected).norm().item<double>();
    // Some are zero but for rounding: the last layer's class token meets one bucket of iRPE alone.
    EXPECT_LT(difference, 1e-3 * expected.norm().item<double>() + 1e-6) << parameter;
  }
}

Vit FixtureConfig() {
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(24);
  config.set_depth(2);
  config.set_num_heads(3);
  return config;
}

TEST(VitParityTest, ClassToken) {
  ExpectParity("class_token", FixtureConfig(), Context({16, 16}, true, Preset(PositionDelivery::VIT)));
}

TEST(VitParityTest, AveragePoolingAfterTheNorm) {
  ExpectParity("average", FixtureConfig(), Context({16, 16}, false, Preset(PositionDelivery::VIT)));
}

TEST(VitParityTest, RectangularImagesWithoutQkvBias) {
  Vit config = FixtureConfig();
  config.set_qkv_bias(false);
  config.set_mlp_ratio(3);
  ExpectParity("rectangular", config, Context({12, 20}, true, Preset(PositionDelivery::VIT)));
}

// A config without absolute positions, with this text in it.
Vit Encoded(const std::string& text) {
  Vit config = FixtureConfig();
  config.set_position(PositionEncoding::NONE);
  CHECK(google::protobuf::TextFormat::MergeFromString(text, &config)) << text;
  return config;
}

TEST(VitParityTest, RopeAxial) {
  ExpectParity("rope_axial", Encoded("layer_scale: 1e-5 attention_position { rope {} }"),
               Context({12, 20}, true, Preset(PositionDelivery::VIT)));
}

TEST(VitParityTest, RopeMixed) {
  ExpectParity("rope_mixed", Encoded("layer_scale: 1e-5 attention_position { rope { kind: MIXED } }"),
               Context({12, 20}, true, Preset(PositionDelivery::VIT)));
}

TEST(VitParityTest, RelativeBias) {
  ExpectParity("relative_bias", Encoded("attention_position { relative_bias {} }"),
               Context({12, 20}, true, Preset(PositionDelivery::VIT)));
}

TEST(VitParityTest, Irpe) {
  ExpectParity("irpe", Encoded("position: LEARNED attention_position { irpe {} }"),
               Context({12, 36}, true, Preset(PositionDelivery::VIT)));
}

TEST(VitParityTest, Conditional) {
  ExpectParity("conditional", Encoded("conditional_position_after: 0"),
               Context({12, 20}, true, Preset(PositionDelivery::VIT)));
}

// What a layout calls the parameters of a model that others don't have.
std::set<std::string> NamesThere(const Backbone& backbone, const std::string& layout_name) {
  std::set<std::string> names;
  for (const WeightLayout& layout : backbone.Layouts()) {
    if (layout.name != layout_name) continue;
    for (const auto& [name, tensor] : ByName(backbone)) {
      if (const std::string there = layout.name_there(name); there != name) names.insert(there);
    }
  }
  return names;
}

// The state dicts of Ingrid725/LaPE, naver-ai/rope-vit and timm's DeiT-III.
TEST(VitTest, KnowsItsNamesInOtherCodes) {
  const MetaScope meta;
  Vit config = Encoded("depth: 2 layer_scale: 1e-5 attention_position { rope { kind: MIXED } }");
  const auto rope = Build(config, Context({12, 20}, true, Preset(PositionDelivery::VIT)));
  EXPECT_EQ(NamesThere(*rope, "naver-ai/rope-vit"), (std::set<std::string>{"freqs"}));
  EXPECT_EQ(
      NamesThere(*rope, "timm's LayerScale"),
      (std::set<std::string>{"blocks.0.ls1.gamma", "blocks.0.ls2.gamma", "blocks.1.ls1.gamma", "blocks.1.ls2.gamma"}));
  config.clear_position();
  const auto lape = Build(config, Context({12, 20}, true, Preset(PositionDelivery::LAPE)));
  EXPECT_EQ(NamesThere(*lape, "Ingrid725/LaPE"),
            (std::set<std::string>{"blocks.0.pe_norm.bias", "blocks.0.pe_norm.weight", "blocks.1.pe_norm.bias",
                                   "blocks.1.pe_norm.weight"}));
}

TEST(VitTest, AdaptsFrequenciesWithTheHeadsInOneAxis) {
  Vit config = Encoded("depth: 2 attention_position { rope { kind: MIXED } }");
  const auto backbone = Build(config, Context({12, 20}, true, Preset(PositionDelivery::VIT)));
  const at::Tensor own = ByName(*backbone).at("rope.freqs");
  EXPECT_TRUE(backbone->Adapt("rope.freqs", own.flatten(2)).equal(own));
  EXPECT_FALSE(backbone->Adapt("rope.freqs", own.flatten()).defined());
}

TEST(VitTest, KnowsWhatTimmHasAndLacks) {
  const MetaScope meta;
  const auto timm = [](const std::string& text, bool class_token = true) {
    Vit config;
    CHECK(google::protobuf::TextFormat::MergeFromString(text, &config)) << text;
    return Build(config, Context({224, 224}, class_token, Preset(PositionDelivery::VIT)))->Timm();
  };
  EXPECT_EQ(timm("")->architecture, "vit_tiny_patch16_224");
  EXPECT_EQ(timm("embed_dim: 384 num_heads: 6")->architecture, "vit_small_patch16_224");
  EXPECT_EQ(std::get<int64_t>(timm("depth: 7")->arguments.at("depth")), 7);
  EXPECT_EQ(std::get<bool>(timm("", false)->arguments.at("fc_norm")), false);
  EXPECT_EQ(timm("layer_scale: 1e-5 attention_position { rope {} }")->architecture, "vit_base_patch16_rope_224");
  for (const char* text : {"norm_epsilon: 1e-5", "layer_scale: 1e-5", "conditional_position_after: 0",
                           "attention_position { rope {} }", "attention_position { irpe {} }"}) {
    EXPECT_EQ(timm(text).status().code(), absl::StatusCode::kUnimplemented) << text;
  }
}

TEST(VitParityTest, AdaptsPositionsOfAnotherGrid) {
  const Safetensors fixture = Fixture("position_resize");
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(8);
  config.set_depth(1);
  config.set_num_heads(1);
  for (const Size2d grid : {Size2d{6, 6}, Size2d{3, 3}, Size2d{5, 7}}) {
    const at::Tensor expected = fixture.Find(absl::StrCat(grid.height, "x", grid.width));
    const Size2d image = {grid.height * 4, grid.width * 4};
    const auto with_class_token = Build(config, Context(image, true, Preset(PositionDelivery::VIT)));
    const at::Tensor adapted = with_class_token->Adapt("pos_embed", fixture.Find("table"));
    EXPECT_TRUE(adapted.allclose(expected, 0, 1e-6));
    const auto without = Build(config, Context(image, false, Preset(PositionDelivery::MPVG)));
    EXPECT_TRUE(
        without->Adapt("pos_embed", fixture.Find("table")).allclose(expected.narrow(1, 1, grid.area()), 0, 1e-6));
    EXPECT_FALSE(without->Adapt("norm.weight", fixture.Find("table")).defined());
  }
}

// ---- Construction and modes -----------------------------------------------------------------------------------------

TEST(VitTest, StartsAsTimm) {
  const auto backbone = Build(Vit(), Context({224, 224}, true, Preset(PositionDelivery::MPVG)));
  const auto weights = ByName(*backbone);
  EXPECT_NEAR(weights.at("blocks.3.attn.qkv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("pos_embed").std().item<double>(), 0.02, 0.0005);
  EXPECT_LT(weights.at("cls_token").abs().max().item<double>(), 1e-5);
  EXPECT_EQ(weights.at("blocks.3.mlp.fc1.bias").abs().max().item<double>(), 0);
  for (const std::string norm : {"norm", "blocks.0.norm1", "pos_norms.5", "last_pos_norm"}) {
    EXPECT_TRUE(weights.at(norm + ".weight").eq(1).all().item<bool>()) << norm;
    EXPECT_TRUE(weights.at(norm + ".bias").eq(0).all().item<bool>()) << norm;
  }
}

TEST(VitTest, ForwardRunsOnTheMetaDevice) {
  const MetaScope meta;
  const auto backbone = Build(Vit(), Context({160, 224}, false, Preset(PositionDelivery::MPVG)));
  const TokenMap map = backbone->Forward(at::randn({2, 3, 160, 224}, at::TensorOptions().device(at::kMeta)));
  EXPECT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, 140, 192}));
}

TEST(VitTest, DropoutAndDropPathActInTrainModeOnly) {
  Vit config = SmallConfig(PositionEncoding::LEARNED);
  config.set_drop_path_rate(0.5);
  config.set_position_dropout(0.1);
  config.set_projection_dropout(0.1);
  config.set_attention_dropout(0.1);
  const auto backbone = Build(config, Context(kImage, false, Preset(PositionDelivery::MPVG)));
  Randomize(*backbone);
  const at::Tensor images = at::randn({2, 3, kImage.height, kImage.width});
  EXPECT_FALSE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
  backbone->SetTraining(false);
  EXPECT_TRUE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens));
}

std::map<std::string, std::string> Errors(const Vit& config, const BackboneContext& context) {
  std::map<std::string, std::string> errors;
  const auto backbone = Registry<Backbone>::Create(config, context);
  for (const FieldError& error : FieldErrors::FromStatus(backbone.status())) errors[error.path] = error.message;
  return errors;
}

TEST(VitErrorsTest, PatchesThatDoNotTileTheImage) {
  Vit config;
  config.set_patch_size(15);
  auto errors = Errors(config, Context({224, 225}, true, Preset(PositionDelivery::VIT)));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(
      errors["patch_size"],
      "patches of 15 don't tile images of 224×225 (height×width); the nearest sizes that they tile are height 210 or "
      "225 and width 225");
}

TEST(VitErrorsTest, AllMistakesComeTogether) {
  Vit config;
  config.set_patch_size(0);
  config.set_embed_dim(10);
  config.set_num_heads(4);
  config.set_depth(-1);
  config.set_mlp_ratio(0);
  config.set_drop_path_rate(1);
  config.set_attention_dropout(-0.1);
  config.set_norm_epsilon(0);
  config.set_position(PositionEncoding::SINUSOID_2D);
  const auto errors = Errors(config, Context({224, 224}, true, Preset(PositionDelivery::VIT)));
  std::set<std::string> paths;
  for (const auto& [path, message] : errors) paths.insert(path);
  EXPECT_EQ(paths, (std::set<std::string>{"patch_size", "num_heads", "depth", "mlp_ratio", "drop_path_rate",
                                          "attention_dropout", "norm_epsilon", "position"}));
}

TEST(VitErrorsTest, EncodingsThatDoNotFit) {
  Vit config;
  config.set_embed_dim(18);
  config.set_depth(2);
  CHECK(google::protobuf::TextFormat::MergeFromString(
      "attention_position { rope { temperature: 0 } } conditional_position_after: [0, 2, 0] layer_scale: -1", &config));
  auto errors = Errors(config, Context({224, 224}, true, Preset(PositionDelivery::VIT)));
  EXPECT_EQ(errors["attention_position.rope"], "needs heads whose width is a multiple of 4, found 18 / 3 = 6");
  EXPECT_EQ(errors["attention_position.rope.temperature"], "must be positive, found 0");
  EXPECT_EQ(errors["conditional_position_after[1]"], "must be a layer from 0 to 1, found 2");
  EXPECT_EQ(errors["conditional_position_after[2]"], "layer 0 is named twice");
  EXPECT_TRUE(errors.contains("layer_scale"));
  EXPECT_EQ(errors.size(), 5);
  CHECK(google::protobuf::TextFormat::MergeFromString("attention_position { irpe { alpha: 9 beta: 3 } }", &config));
  EXPECT_TRUE(
      Errors(config, Context({224, 224}, true, Preset(PositionDelivery::VIT))).contains("attention_position.irpe"));
}

TEST(VitErrorsTest, ADeliveryThatTheModelCannotMeet) {
  Vit config;
  PositionDelivery delivery = Preset(PositionDelivery::PVG);
  delivery.set_last(12);
  EXPECT_TRUE(Errors(config, Context({224, 224}, false, delivery)).contains("depth"));
  config.set_position(PositionEncoding::NONE);
  EXPECT_TRUE(Errors(config, Context({224, 224}, false, Preset(PositionDelivery::MPVG))).contains("position"));
}

}  // namespace
}  // namespace graticule
