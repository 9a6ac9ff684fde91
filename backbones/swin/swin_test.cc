#include "backbones/swin/swin.h"

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
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

PositionDelivery Preset(PositionDelivery::Preset preset) { return ResolvePositionDelivery({}, preset); }

BackboneContext Context(Size2d image_size, PositionDelivery::Preset preset = PositionDelivery::VIT) {
  return {.image_size = image_size, .contract = {.class_token = false, .delivery = Preset(preset)}};
}

Swin Config(const std::string& text) {
  Swin config;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

std::unique_ptr<Backbone> Build(const Swin& config, const BackboneContext& context) {
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
    tensor.normal_(0, 0.4);
    const bool is_norm_scale = tensor.dim() == 1 && parameter.name.ends_with("weight");
    if (is_norm_scale) tensor.add_(1);
  }
}

// ---- Parameter and multiply-add counts
// -------------------------------------------------------------------------------

constexpr char kTiny[] = "";
constexpr char kSmall[] = "depths: [2, 2, 18, 2]";
constexpr char kBase[] = "embed_dim: 128 depths: [2, 2, 18, 2] num_heads: [4, 8, 16, 32]";

struct Count {
  std::string config;
  PositionDelivery::Preset preset;
  int64_t parameters;  // with a head of 1000 classes
};

TEST(SwinTest, HasThePublishedNumberOfParameters) {
  const std::vector<Count> counts = {
      {kTiny, PositionDelivery::VIT, 28'288'354},
      {kSmall, PositionDelivery::VIT, 49'606'258},
      {kBase, PositionDelivery::VIT, 87'768'224},
      {"absolute_position: true", PositionDelivery::VIT, 28'589'410},
      {"absolute_position: true", PositionDelivery::LAPE, 28'598'242},
      {"absolute_position: true", PositionDelivery::PVG, 28'598'242},
      {"absolute_position: true", PositionDelivery::MPVG, 28'599'778},
      {"absolute_position: true position_merging: MEAN", PositionDelivery::MPVG, 28'599'778},
  };
  const MetaScope meta;
  for (const Count& count : counts) {
    const auto backbone = Build(Config(count.config), Context({224, 224}, count.preset));
    EXPECT_EQ(backbone->ParameterCount() + backbone->width() * 1000 + 1000, count.parameters)
        << count.config << " " << PositionDelivery::Preset_Name(count.preset);
  }
}

// PositionalLabel's counts have the classifier and the label's head, of these numbers of parameters.
TEST(SwinTest, HasThePublishedNumberOfParametersWithPositionalLabels) {
  constexpr int64_t kClassifier = 769'000, kRelativeHead = 508'201, kAbsoluteHead = 259'588;
  const MetaScope meta;
  const std::string released = "relative_position_bias: false conditional_position: true ";
  const auto relative = Build(Config(released), Context({224, 224}));
  EXPECT_EQ(relative->ParameterCount() + kClassifier + kRelativeHead, 28'817'393);
  EXPECT_EQ(relative->grid(), (Size2d{7, 7}));
  const auto absolute = Build(Config(released + "last_merging: false"), Context({224, 224}));
  EXPECT_EQ(absolute->ParameterCount() + kClassifier + kAbsoluteHead, 27'681'740);
  EXPECT_EQ(absolute->grid(), (Size2d{14, 14}));
}

TEST(SwinTest, HasThePublishedNumberOfMultiplyAdds) {
  const std::vector<std::pair<std::string, double>> published = {{kTiny, 4.5e9}, {kSmall, 8.7e9}, {kBase, 15.4e9}};
  const MetaScope meta;
  for (const auto& [config, macs] : published) {
    const auto backbone = Build(Config(config), Context({224, 224}));
    const at::Tensor image = at::randn({1, 3, 224, 224}, at::TensorOptions().device(at::kMeta));
    const MacCount count = CountMacs(backbone->Parameters(), [&] { backbone->Forward(image); });
    EXPECT_NEAR(count.total + backbone->width() * 1000, macs, macs / 100) << config;
  }
}

TEST(SwinTest, DecaysMatricesButNoPositions) {
  const auto backbone = Build(Config("embed_dim: 12 absolute_position: true conditional_position: true"),
                              Context({32, 32}, PositionDelivery::MPVG));
  for (const NamedParameter& parameter : backbone->Parameters()) {
    const bool matrix = parameter.name.ends_with("weight") && parameter.name.find("norm") == std::string::npos &&
                        parameter.name.find("cpe") == std::string::npos;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    EXPECT_TRUE(parameter.trainable) << parameter.name;
  }
}

// ---- The equations --------------------------------------------------------------------------------------------------

using Vector = std::vector<double>;
// Tokens in raster order.
struct Map {
  int height = 0, width = 0;
  std::vector<Vector> tokens;

  Vector& at(int row, int column) { return tokens[row * width + column]; }
  const Vector& at(int row, int column) const { return tokens[row * width + column]; }
};

struct SlowOptions {
  int patch = 4;
  std::vector<int> depths, heads;
  int window = 0;
  bool conditional_position = false;
  bool last_merging = true;
  bool mean_merging = false;
  PositionDelivery delivery;
};

// The model written out in plain loops, in double, for a single image whose maps the windows tile.
class SlowSwin {
 public:
  SlowSwin(const Module& module, const SlowOptions& options) : weights_(ByName(module)), options_(options) {}

  std::vector<Vector> Tokens(const at::Tensor& image) const {
    Map x = Norm(Patches(image), "patch_embed.norm");
    Map origin, previous;  // pos_0 and pos_{l-1}, at the stage's grid and width
    const PositionDelivery& delivery = options_.delivery;
    if (weights_.contains("absolute_pos_embed")) {
      origin = {x.height, x.width, Rows("absolute_pos_embed")};
      previous = origin;
      if (delivery.add_to_input()) x = Sum(x, origin);
    }
    std::map<int, Map> pos = {{0, origin}};  // pos_k at the stage's grid and width
    int layer = 0;
    for (size_t s = 0; s < options_.depths.size(); ++s) {
      const bool global = !options_.last_merging && s + 1 == options_.depths.size();
      if (s > 0) {
        const std::string name = absl::StrCat("layers.", s, ".downsample.");
        x = Merge(x, name, !global);
        const auto follow = [&](const Map& map) {
          return map.tokens.empty() ? map : options_.mean_merging ? Mean(map, !global) : Merge(map, name, !global);
        };
        previous = follow(previous);
        for (auto& [k, map] : pos) map = follow(map);
      }
      for (int b = 0; b < options_.depths[s]; ++b, ++layer) {
        const std::string block = absl::StrCat("layers.", s, ".blocks.", b, ".");
        if (options_.conditional_position) x = Sum(x, DepthWise(x, block + "cpe"));
        Map normed = Norm(x, block + "norm1");
        const bool gets_position = delivery.layers() != PositionDelivery::NONE &&
                                   (layer > 0 || !delivery.has_first_layer() || delivery.first_layer());
        if (gets_position) {
          const bool flat = delivery.layers() == PositionDelivery::FLAT;
          previous = Norm(flat ? pos[0] : previous, absl::StrCat("pos_norms.", layer));
          normed = Sum(normed, previous);
        }
        if (layer > 0) pos[layer] = previous;
        const int window = global ? std::max(x.height, x.width) : options_.window;
        x = Sum(x, WindowAttention(normed, block + "attn.", options_.heads[s], window, b % 2 == 1 ? window / 2 : 0));
        x = Sum(x, MultiLayerPerceptron(Norm(x, block + "norm2"), block + "mlp."));
      }
    }
    Map y = Norm(x, "norm");
    if (delivery.has_last()) y = Sum(y, Norm(pos[delivery.last()], "last_pos_norm"));
    return y.tokens;
  }

 private:
  std::vector<Vector> Rows(const std::string& name) const {
    const at::Tensor tensor = weights_.at(name).detach();
    const at::Tensor flat = tensor.reshape({-1, tensor.size(-1)}).to(at::kDouble).contiguous();
    std::vector<Vector> rows(flat.size(0), Vector(flat.size(1)));
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t c = 0; c < rows[r].size(); ++c) rows[r][c] = flat.data_ptr<double>()[r * rows[r].size() + c];
    }
    return rows;
  }

  static Map Sum(Map a, const Map& b) {
    for (size_t t = 0; t < a.tokens.size(); ++t) {
      for (size_t i = 0; i < a.tokens[t].size(); ++i) a.tokens[t][i] += b.tokens[t][i];
    }
    return a;
  }

  Map Patches(const at::Tensor& image) const {
    const int patch = options_.patch;
    const auto pixels = image.accessor<float, 3>();
    const auto kernel = weights_.at("patch_embed.proj.weight").accessor<float, 4>();
    const Vector bias = Rows("patch_embed.proj.bias")[0];
    Map map = {static_cast<int>(image.size(1)) / patch, static_cast<int>(image.size(2)) / patch, {}};
    for (int y = 0; y < image.size(1); y += patch) {
      for (int x = 0; x < image.size(2); x += patch) {
        map.tokens.push_back(bias);
        for (int d = 0; d < kernel.size(0); ++d) {
          for (int c = 0; c < kernel.size(1); ++c) {
            for (int i = 0; i < patch; ++i) {
              for (int j = 0; j < patch; ++j) map.tokens.back()[d] += kernel[d][c][i][j] * pixels[c][y + i][x + j];
            }
          }
        }
      }
    }
    return map;
  }

  Map Norm(Map map, const std::string& name) const {
    const Vector scale = Rows(name + ".weight")[0], shift = Rows(name + ".bias")[0];
    for (Vector& row : map.tokens) {
      double mean = 0, variance = 0;
      for (const double value : row) mean += value / row.size();
      for (const double value : row) variance += (value - mean) * (value - mean) / row.size();
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = (row[i] - mean) / std::sqrt(variance + 1e-5) * scale[i] + shift[i];
      }
    }
    return map;
  }

  Map Affine(const Map& map, const std::string& name) const {
    const std::vector<Vector> weight = Rows(name + ".weight");
    Map y = {map.height, map.width, {}};
    for (const Vector& row : map.tokens) {
      y.tokens.push_back(weights_.contains(name + ".bias") ? Rows(name + ".bias")[0] : Vector(weight.size()));
      for (size_t o = 0; o < weight.size(); ++o) {
        for (size_t i = 0; i < row.size(); ++i) y.tokens.back()[o] += weight[o][i] * row[i];
      }
    }
    return y;
  }

  // Swin's paper: the four neighbours' channels after each other, upper left, lower left, upper right, lower right.
  Map Merge(const Map& map, const std::string& name, bool join) const {
    if (!join) return Affine(Norm(map, name + "norm"), name + "reduction");
    Map joined = {map.height / 2, map.width / 2, {}};
    for (int row = 0; row < joined.height; ++row) {
      for (int column = 0; column < joined.width; ++column) {
        Vector& token = joined.tokens.emplace_back();
        for (const auto& [down, right] : {std::pair(0, 0), std::pair(1, 0), std::pair(0, 1), std::pair(1, 1)}) {
          const Vector& part = map.at(2 * row + down, 2 * column + right);
          token.insert(token.end(), part.begin(), part.end());
        }
      }
    }
    return Affine(Norm(joined, name + "norm"), name + "reduction");
  }

  static Map Mean(const Map& map, bool join) {
    const int side = join ? 2 : 1;
    Map mean = {map.height / side, map.width / side, {}};
    for (int row = 0; row < mean.height; ++row) {
      for (int column = 0; column < mean.width; ++column) {
        const size_t width = map.tokens[0].size();
        Vector& token = mean.tokens.emplace_back(2 * width);
        for (int i = 0; i < side * side; ++i) {
          const Vector& part = map.at(side * row + i / side, side * column + i % side);
          for (size_t c = 0; c < 2 * width; ++c) token[c] += part[c % width] / (side * side);
        }
      }
    }
    return mean;
  }

  Map DepthWise(const Map& map, const std::string& name) const {
    const auto kernel = weights_.at(name + ".weight").accessor<float, 4>();
    Map y = map;
    for (int row = 0; row < map.height; ++row) {
      for (int column = 0; column < map.width; ++column) {
        y.at(row, column) = Rows(name + ".bias")[0];
        for (int i = -1; i <= 1; ++i) {
          for (int j = -1; j <= 1; ++j) {
            if (row + i < 0 || row + i >= map.height || column + j < 0 || column + j >= map.width) continue;
            const Vector& neighbour = map.at(row + i, column + j);
            for (size_t c = 0; c < neighbour.size(); ++c) {
              y.at(row, column)[c] += kernel[c][0][i + 1][j + 1] * neighbour[c];
            }
          }
        }
      }
    }
    return y;
  }

  // A token attends to those whose window it shares. Shifted windows begin `shift` further down and right; the strips
  // above and left of the first ones are cut into windows of their own.
  Map WindowAttention(const Map& x, const std::string& name, int heads, int window, int shift) const {
    const int width = x.tokens[0].size(), size = width / heads;
    const Map qkv = Affine(x, name + "qkv");
    // Along an axis that one window covers nothing is shifted.
    const auto window_of = [&](int at, int length) { return length <= window ? 0 : (at + window - shift) / window; };
    const int columns = 2 * std::min(window, x.width) - 1;
    const int middle = (std::min(window, x.height) - 1) * columns + std::min(window, x.width) - 1;
    const std::vector<Vector> bias = weights_.contains(name + "relative_position_bias_table")
                                         ? Rows(name + "relative_position_bias_table")
                                         : std::vector<Vector>();
    Map y = {x.height, x.width, std::vector<Vector>(x.tokens.size(), Vector(width))};
    for (int t = 0; t < x.height * x.width; ++t) {
      const int row = t / x.width, column = t % x.width;
      for (int head = 0; head < heads; ++head) {
        double sum = 0;
        Vector out(size);
        for (int u = 0; u < x.height * x.width; ++u) {
          const int r = u / x.width, c = u % x.width;
          if (window_of(row, x.height) != window_of(r, x.height)) continue;
          if (window_of(column, x.width) != window_of(c, x.width)) continue;
          double logit = 0;
          for (int i = head * size; i < (head + 1) * size; ++i) logit += qkv.tokens[t][i] * qkv.tokens[u][width + i];
          logit /= std::sqrt(size);
          if (!bias.empty()) logit += bias[middle + (row - r) * columns + column - c][head];
          sum += std::exp(logit);
          for (int i = 0; i < size; ++i) out[i] += std::exp(logit) * qkv.tokens[u][2 * width + head * size + i];
        }
        for (int i = 0; i < size; ++i) y.tokens[t][head * size + i] = out[i] / sum;
      }
    }
    return Affine(y, name + "proj");
  }

  Map MultiLayerPerceptron(const Map& x, const std::string& name) const {
    Map hidden = Affine(x, name + "fc1");
    for (Vector& row : hidden.tokens) {
      for (double& value : row) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
    }
    return Affine(hidden, name + "fc2");
  }

  std::map<std::string, at::Tensor> weights_;
  SlowOptions options_;
};

struct Case {
  std::string name;
  std::string config;  // beside that of SmallConfig
  PositionDelivery delivery;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, const std::string& config, PositionDelivery::Preset preset,
                       const std::function<void(PositionDelivery&)>& change = nullptr) {
    PositionDelivery delivery = Preset(preset);
    if (change) change(delivery);
    cases.push_back({name, config, delivery});
  };
  const std::string position = "absolute_position: true ";
  add("Swin", "", PositionDelivery::VIT);
  add("default", position, PositionDelivery::VIT);
  add("LaPE", position, PositionDelivery::LAPE);
  add("PVG", position, PositionDelivery::PVG);
  add("MPVG", position, PositionDelivery::MPVG);
  add("MPVG, position merged without weights", position + "position_merging: MEAN", PositionDelivery::MPVG);
  add("MPVG without layer 0", position, PositionDelivery::MPVG, [](auto& d) { d.set_first_layer(false); });
  add("MPVG, flat", position, PositionDelivery::MPVG, [](auto& d) { d.set_layers(PositionDelivery::FLAT); });
  add("pos_1 at the last norm", position, PositionDelivery::PVG, [](auto& d) { d.set_last(1); });
  add("pos_3 at the last norm", position, PositionDelivery::PVG, [](auto& d) { d.set_last(3); });
  const std::string released = "relative_position_bias: false conditional_position: true ";
  add("PositionalLabel", released, PositionDelivery::VIT);
  add("PositionalLabel at 14×14", released + "last_merging: false", PositionDelivery::VIT);
  add("all at once", position + "conditional_position: true last_merging: false", PositionDelivery::MPVG);
  add("all at once, position merged without weights", position + "last_merging: false position_merging: MEAN",
      PositionDelivery::MPVG);
  return cases;
}

constexpr Size2d kImage = {16, 24};  // 8×12 patches of 2, then 4×6

constexpr char kSmallModel[] =
    "patch_size: 2 embed_dim: 4 depths: [2, 2] num_heads: [2, 2] window_size: 2 mlp_ratio: 2 ";

Swin SmallConfig(const std::string& rest) { return Config(kSmallModel + rest + " drop_path_rate: 0"); }

BackboneContext CaseContext(const Case& c) {
  return {.image_size = kImage, .contract = {.class_token = false, .delivery = c.delivery}};
}

TEST(SwinTest, ComputesTheEquations) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    for (const int window : {2, 4}) {
      Swin config = SmallConfig(c.config);
      config.set_window_size(window);
      // Windows of 4 don't tile 4×6 tokens; the whole of 4×4 is one.
      const Size2d image = window == 4 ? Size2d{16, 16} : kImage;
      BackboneContext context = CaseContext(c);
      context.image_size = image;
      const auto backbone = Build(config, context);
      Randomize(*backbone);
      const at::Tensor images = at::randn({2, 3, image.height, image.width});
      const TokenMap map = backbone->Forward(images);
      EXPECT_EQ(map.grid, backbone->grid());
      ASSERT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, map.grid.area(), 8}));
      EXPECT_EQ(map.prefix_tokens, 0);
      EXPECT_EQ(map.position.defined(), config.absolute_position());
      const SlowSwin slow(*backbone, {.patch = 2,
                                      .depths = {2, 2},
                                      .heads = {2, 2},
                                      .window = window,
                                      .conditional_position = config.conditional_position(),
                                      .last_merging = !config.has_last_merging(),
                                      .mean_merging = config.position_merging() == Swin::MEAN,
                                      .delivery = c.delivery});
      for (int image = 0; image < 2; ++image) {
        const std::vector<Vector> expected = slow.Tokens(images[image]);
        double worst = 0;
        for (size_t t = 0; t < expected.size(); ++t) {
          for (int64_t i = 0; i < 8; ++i) {
            worst = std::max(worst, std::abs(map.tokens[image][t][i].item<double>() - expected[t][i]));
          }
        }
        EXPECT_LT(worst, 2e-5);
      }
    }
  }
}

TEST(SwinTest, GradientsReachEveryParameter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto backbone = Build(SmallConfig(c.config), CaseContext(c));
    Randomize(*backbone);
    const at::Tensor tokens = backbone->Forward(at::randn({2, 3, kImage.height, kImage.width})).tokens;
    tokens.mul(at::randn(tokens.sizes())).sum().backward();
    for (const NamedParameter& parameter : backbone->Parameters()) {
      ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
      EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
      EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 0) << parameter.name;
    }
  }
}

// ---- timm and the official codes
// --------------------------------------------------------------------------------------

Safetensors Fixture(const std::string& name) {
  auto fixture = ReadSafetensors(absl::StrCat("backbones/swin/testdata/", name, ".safetensors"));
  CHECK(fixture.ok()) << fixture.status();
  return *std::move(fixture);
}

WeightLayout OwnLayout() {
  return {.name_there = [](const std::string& ours) { return ours; }};
}

// Another code's model and this one, with the same weights: tokens, logits, and the gradients of the mean of the
// squared logits.
void ExpectParity(const std::string& name, const std::string& config, Size2d image, bool official) {
  const Safetensors fixture = Fixture(name);
  const auto backbone = Build(
      Config("patch_size: 2 embed_dim: 8 depths: [2, 2] num_heads: [2, 4] window_size: 4 drop_path_rate: 0 " + config),
      Context(image));
  const WeightLayout layout = official ? backbone->Layouts().at(0) : OwnLayout();
  std::map<std::string, at::Tensor> parameters;  // by their names there
  for (const auto& [parameter, tensor] : ByName(*backbone)) parameters[layout.name_there(parameter)] = tensor;
  {
    c10::NoGradGuard no_grad;
    for (auto& [parameter, tensor] : parameters) {
      const at::Tensor loaded = fixture.Find(parameter);
      ASSERT_TRUE(loaded.defined()) << "not there: " << parameter;
      ASSERT_EQ(loaded.sizes(), tensor.sizes()) << parameter;
      tensor.copy_(loaded);
    }
  }
  for (const std::string end : {".weight", ".bias"}) {
    const std::string there = layout.name_there(backbone->HeadName() + end);
    parameters[there] = fixture.Find(there).requires_grad_(true);
  }
  for (const auto& [tensor, unused] : fixture.tensors) {
    const bool is_weight =
        tensor != "images" && tensor != "tokens" && tensor != "logits" && !tensor.starts_with("grad/");
    EXPECT_TRUE(!is_weight || parameters.contains(tensor) || layout.is_derived(tensor)) << "not here: " << tensor;
  }

  const TokenMap map = backbone->Forward(fixture.Find("images"));
  EXPECT_LT(map.tokens.sub(fixture.Find("tokens")).abs().max().item<double>(), 5e-5);
  const std::string head = layout.name_there(backbone->HeadName() + ".");
  const at::Tensor logits =
      at::linear(map.tokens.mean(1), parameters.at(head + "weight"), parameters.at(head + "bias"));
  EXPECT_LT(logits.sub(fixture.Find("logits")).abs().max().item<double>(), 5e-5);

  logits.square().mean().backward();
  for (const auto& [parameter, tensor] : parameters) {
    const at::Tensor expected = fixture.Find(absl::StrCat("grad/", parameter));
    const double difference = tensor.grad().sub(expected).norm().item<double>();
    EXPECT_LT(difference, 1e-3 * expected.norm().item<double>()) << parameter;
  }
}

TEST(SwinParityTest, ShiftedWindows) { ExpectParity("shifted", "", {32, 32}, false); }

TEST(SwinParityTest, WindowsThatDoNotTileTheMap) { ExpectParity("padded", "mlp_ratio: 2", {20, 36}, false); }

TEST(SwinParityTest, WindowsLargerThanTheMap) { ExpectParity("clipped", "qkv_bias: false", {8, 24}, false); }

TEST(SwinParityTest, AbsolutePosition) { ExpectParity("absolute_position", "absolute_position: true", {16, 16}, true); }

TEST(SwinParityTest, ConditionalPosition) {
  ExpectParity("conditional_position", "relative_position_bias: false conditional_position: true", {16, 16}, true);
}

TEST(SwinParityTest, LastGridKept) {
  ExpectParity("last_grid_kept", "relative_position_bias: false conditional_position: true last_merging: false",
               {16, 16}, true);
}

TEST(SwinParityTest, AdaptsBiasesOfOtherWindows) {
  const Safetensors fixture = Fixture("bias_resize");
  const std::string name = "layers.1.blocks.0.attn.relative_position_bias_table";
  for (const int window : {6, 3, 2}) {
    const Swin config = Config(absl::StrCat("embed_dim: 12 depths: [2, 2] num_heads: [1, 3] window_size: ", window));
    const auto backbone = Build(config, Context({96, 96}));
    const at::Tensor adapted = backbone->Adapt(name, fixture.Find("table"));
    ASSERT_EQ(adapted.sizes(), ByName(*backbone).at(name).sizes());
    EXPECT_TRUE(adapted.allclose(fixture.Find(absl::StrCat(window)), 0, 1e-6));
    EXPECT_FALSE(
        backbone->Adapt("layers.0.blocks.0.attn.relative_position_bias_table", fixture.Find("table")).defined())
        << "of 3 heads instead of 1";
  }
}

TEST(SwinTest, AdaptsAbsolutePositionsOfAnotherGrid) {
  const auto backbone = Build(Config("embed_dim: 12 absolute_position: true"), Context({64, 96}));
  const at::Tensor adapted = backbone->Adapt("absolute_pos_embed", at::randn({1, 8 * 8, 12}));
  EXPECT_EQ(adapted.sizes(), (at::IntArrayRef{1, 16 * 24, 12}));
  EXPECT_FALSE(backbone->Adapt("norm.weight", at::randn({1, 64, 12})).defined());
  const auto without = Build(Config("embed_dim: 12"), Context({64, 96}));
  EXPECT_FALSE(without->Adapt("absolute_pos_embed", at::randn({1, 64, 12})).defined());
}

TEST(SwinTest, NamesOfTheOfficialCode) {
  const MetaScope meta;
  const auto backbone = Build(Swin(), Context({224, 224}));
  const WeightLayout layout = backbone->Layouts().at(0);
  EXPECT_EQ(layout.name_there("layers.3.downsample.norm.bias"), "layers.2.downsample.norm.bias");
  EXPECT_EQ(layout.name_there("layers.1.downsample.reduction.weight"), "layers.0.downsample.reduction.weight");
  EXPECT_EQ(layout.name_there("layers.1.blocks.1.norm1.weight"), "layers.1.blocks.1.norm1.weight");
  EXPECT_EQ(layout.name_there("head.fc.weight"), "head.weight");
  EXPECT_TRUE(layout.is_derived("layers.0.blocks.1.attn_mask"));
  EXPECT_TRUE(layout.is_derived("layers.0.blocks.1.attn.relative_position_index"));
  EXPECT_FALSE(layout.is_derived("layers.0.blocks.1.attn.qkv.weight"));
}

TEST(SwinTest, ItsModelInTimm) {
  const MetaScope meta;
  const auto timm = [](const std::string& config) { return Build(Config(config), Context({224, 224}))->Timm(); };
  EXPECT_EQ(timm(kTiny)->architecture, "swin_tiny_patch4_window7_224");
  EXPECT_EQ(timm(kSmall)->architecture, "swin_small_patch4_window7_224");
  EXPECT_EQ(timm(kBase)->architecture, "swin_base_patch4_window7_224");
  EXPECT_EQ(std::get<std::vector<int64_t>>(timm(kBase)->arguments.at("num_heads")),
            (std::vector<int64_t>{4, 8, 16, 32}));
  EXPECT_EQ(std::get<int64_t>(timm("window_size: 14")->arguments.at("window_size")), 14);
  for (const std::string config :
       {"absolute_position: true", "conditional_position: true", "relative_position_bias: false", "patch_norm: false",
        "last_merging: false", "norm_epsilon: 1e-6"}) {
    const absl::Status status = timm(config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << config;
    const std::string field = config.substr(0, config.find(':'));
    EXPECT_NE(std::string(status.message()).find(field), std::string::npos) << status;
  }
}

// ---- Construction and modes -----------------------------------------------------------------------------------------

TEST(SwinTest, StartsAsSwin) {
  const auto backbone = Build(Config("absolute_position: true"), Context({224, 224}, PositionDelivery::MPVG));
  const auto weights = ByName(*backbone);
  EXPECT_NEAR(weights.at("layers.2.blocks.3.attn.qkv.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("layers.2.blocks.3.attn.relative_position_bias_table").std().item<double>(), 0.02, 0.002);
  EXPECT_NEAR(weights.at("layers.3.downsample.reduction.weight").std().item<double>(), 0.02, 0.0005);
  EXPECT_NEAR(weights.at("absolute_pos_embed").std().item<double>(), 0.02, 0.0005);
  EXPECT_EQ(weights.at("layers.2.blocks.3.mlp.fc1.bias").abs().max().item<double>(), 0);
  for (const std::string norm : {"norm", "patch_embed.norm", "layers.1.downsample.norm", "pos_norms.0"}) {
    EXPECT_TRUE(weights.at(norm + ".weight").eq(1).all().item<bool>()) << norm;
    EXPECT_TRUE(weights.at(norm + ".bias").eq(0).all().item<bool>()) << norm;
  }
}

TEST(SwinTest, ForwardRunsOnTheMetaDevice) {
  const MetaScope meta;
  const auto backbone =
      Build(Config("absolute_position: true conditional_position: true"), Context({160, 224}, PositionDelivery::MPVG));
  const TokenMap map = backbone->Forward(at::randn({2, 3, 160, 224}, at::TensorOptions().device(at::kMeta)));
  EXPECT_EQ(map.tokens.sizes(), (at::IntArrayRef{2, 5 * 7, 768}));
}

TEST(SwinTest, DropoutAndDropPathActInTrainModeOnly) {
  for (const std::string field : {"drop_path_rate", "drop_path_rate: 0 position_dropout",
                                  "drop_path_rate: 0 projection_dropout", "drop_path_rate: 0 attention_dropout"}) {
    const auto backbone = Build(Config(kSmallModel + field + ": 0.5"), Context(kImage));
    Randomize(*backbone);
    const at::Tensor images = at::randn({4, 3, kImage.height, kImage.width});
    EXPECT_FALSE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens)) << field;
    backbone->SetTraining(false);
    EXPECT_TRUE(backbone->Forward(images).tokens.equal(backbone->Forward(images).tokens)) << field;
  }
}

std::map<std::string, std::string> Errors(const std::string& config, const BackboneContext& context) {
  std::map<std::string, std::string> errors;
  const auto backbone = Registry<Backbone>::Create(Config(config), context);
  for (const FieldError& error : FieldErrors::FromStatus(backbone.status())) errors[error.path] = error.message;
  return errors;
}

TEST(SwinErrorsTest, ImagesThatThePatchesAndTheirMergingsDoNotTile) {
  auto errors = Errors("", Context({224, 240}));
  ASSERT_EQ(errors.size(), 1);
  EXPECT_EQ(
      errors["patch_size"],
      "patches of 4, merged 2×2 3 times, don't tile images of 224×240 (height×width); the nearest sizes that they "
      "tile are height 224 and width 224 or 256");
  EXPECT_TRUE(Errors("last_merging: false", Context({224, 240})).empty());
}

TEST(SwinErrorsTest, AllMistakesComeTogether) {
  const auto errors = Errors(
      "embed_dim: 10 depths: [2, 0] num_heads: [3, 4, 5] window_size: 0 mlp_ratio: 0 drop_path_rate: 1 "
      "position_dropout: -1 projection_dropout: 2 attention_dropout: -0.1 norm_epsilon: 0 patch_size: -4",
      Context({224, 224}));
  std::set<std::string> paths;
  for (const auto& [path, message] : errors) paths.insert(path);
  EXPECT_EQ(paths, (std::set<std::string>{"depths[1]", "num_heads", "num_heads[0]", "window_size", "mlp_ratio",
                                          "drop_path_rate", "position_dropout", "projection_dropout",
                                          "attention_dropout", "norm_epsilon", "patch_size"}));
}

TEST(SwinErrorsTest, NumbersThatWouldTakeTheMemory) {
  EXPECT_TRUE(Errors("depths: [2000000000, 2] num_heads: [3, 6]", Context({224, 224})).contains("depths[0]"));
  EXPECT_TRUE(Errors("depths: [600, 600] num_heads: [3, 6]", Context({224, 224})).contains("depths"));
  EXPECT_TRUE(Errors("embed_dim: 2000000000", Context({224, 224})).contains("embed_dim"));
  EXPECT_TRUE(Errors("embed_dim: 16384", Context({224, 224})).contains("embed_dim")) << "131072 in the last stage";
  EXPECT_TRUE(Errors("window_size: 2000000000", Context({512, 512})).contains("window_size"));
  EXPECT_TRUE(Errors("patch_size: 2000000000", Context({224, 224})).contains("patch_size"));
}

TEST(SwinErrorsTest, ContractsThatItCannotMeet) {
  BackboneContext context = Context({224, 224});
  context.contract.class_token = true;
  EXPECT_TRUE(Errors("", context).contains(""));
  EXPECT_TRUE(Errors("", Context({224, 224}, PositionDelivery::MPVG)).contains("absolute_position"));
  context = Context({224, 224}, PositionDelivery::PVG);
  context.contract.delivery.set_last(12);
  EXPECT_TRUE(Errors("absolute_position: true", context).contains("depths"));
  EXPECT_TRUE(Errors("depths: 2 num_heads: 3 last_merging: false", Context({224, 224})).contains("last_merging"));
}

}  // namespace
}  // namespace graticule
