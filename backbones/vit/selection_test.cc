// A pass over some of the patches, as masked autoencoding and Jigsaw-ViT want it.
#include <memory>
#include <string>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/randperm.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/tensor.h"
#include "backbones/backbone.h"
#include "backbones/testing.h"
#include "backbones/vit/vit.pb.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/position_delivery.h"
#include "nn/testing.h"

namespace graticule {
namespace {

constexpr Size2d kImage = {8, 12};  // 2×3 patches of 4
constexpr int64_t kPatches = 6;

struct Case {
  const char* name;
  PositionDelivery::Preset preset;
  bool class_token;
};
const Case kCases[] = {
    {"default", PositionDelivery::VIT, true}, {"average pooling", PositionDelivery::VIT, false},
    {"LaPE", PositionDelivery::LAPE, true},   {"PVG", PositionDelivery::PVG, false},
    {"MPVG", PositionDelivery::MPVG, false},  {"MPVG with class token", PositionDelivery::MPVG, true}};

std::unique_ptr<Backbone> Build(Size2d image, const Case& c,
                                PositionEncoding::Kind position = PositionEncoding::LEARNED) {
  Vit config;
  config.set_patch_size(4);
  config.set_embed_dim(8);
  config.set_depth(3);
  config.set_num_heads(2);
  config.set_position(position);
  return Build(config, Context(image, c.class_token, Preset(c.preset)));
}

std::unique_ptr<Backbone> BuildRandom(const Case& c) {
  auto backbone = Build(kImage, c);
  Randomize(*backbone);
  return backbone;
}

at::Tensor RandomSelection(int64_t batch, int64_t count) {
  std::vector<at::Tensor> rows;
  for (int64_t b = 0; b < batch; ++b) rows.push_back(at::randperm(kPatches).narrow(0, 0, count));
  return at::stack(rows);
}

class SelectionTest : public testing::TestWithParam<Case> {};

TEST_P(SelectionTest, AllPatchesInOrderAreThePlainPass) {
  c10::NoGradGuard no_grad;
  const auto backbone = BuildRandom(GetParam());
  ASSERT_TRUE(backbone->CanSelect());
  const at::Tensor images = RandomImages(2, kImage);
  const TokenMap whole = backbone->Forward(images);
  const at::Tensor all = at::arange(kPatches, at::kLong).expand({2, -1});
  const TokenMap selected = backbone->ForwardSelected(images, {.kept = all});
  EXPECT_LT(LargestDifference(selected.tokens, whole.tokens), 1e-5);
  EXPECT_EQ(selected.prefix_tokens, whole.prefix_tokens);
  EXPECT_EQ(selected.grid, whole.grid);
  EXPECT_TRUE(at::equal(selected.kept, all));
  // Without position it is another function.
  EXPECT_GT(LargestDifference(backbone->ForwardSelected(images, {.kept = all, .position = false}).tokens, whole.tokens),
            0.1);
}

TEST_P(SelectionTest, ShuffledPatchesGiveShuffledTokens) {
  c10::NoGradGuard no_grad;
  const auto backbone = BuildRandom(GetParam());
  const int64_t prefix = backbone->prefix_tokens();
  const at::Tensor images = RandomImages(2, kImage);
  const at::Tensor kept = RandomSelection(2, 4), order = at::tensor({2, 0, 3, 1}, at::kLong);
  for (const bool position : {true, false}) {
    const TokenMap a = backbone->ForwardSelected(images, {.kept = kept, .position = position});
    const TokenMap b = backbone->ForwardSelected(images, {.kept = kept.index_select(1, order), .position = position});
    EXPECT_LT(LargestDifference(a.PatchTokens().index_select(1, order), b.PatchTokens()), 1e-5);
    if (prefix > 0) EXPECT_LT(LargestDifference(a.tokens.narrow(1, 0, prefix), b.tokens.narrow(1, 0, prefix)), 1e-5);
  }
}

// The chosen patches of an image side by side, as an image of their own.
at::Tensor SideBySide(const at::Tensor& image, const at::Tensor& kept) {
  std::vector<at::Tensor> patches;
  for (int64_t v = 0; v < kept.size(0); ++v) {
    const int64_t cell = kept[v].item<int64_t>();
    patches.push_back(image.narrow(1, cell / 3 * 4, 4).narrow(2, cell % 3 * 4, 4));
  }
  return at::cat(patches, 2).unsqueeze(0);
}

// A model that was built for the chosen patches alone, with their rows of the position table, says the same.
TEST_P(SelectionTest, SomePatchesAreAModelOfThesePatches) {
  c10::NoGradGuard no_grad;
  const Case& c = GetParam();
  const auto backbone = BuildRandom(c);
  const auto weights = ByName(*backbone);
  const at::Tensor images = RandomImages(2, kImage);
  const at::Tensor kept = RandomSelection(2, 3);
  const at::Tensor with = backbone->ForwardSelected(images, {.kept = kept}).tokens;
  const at::Tensor without = backbone->ForwardSelected(images, {.kept = kept, .position = false}).tokens;
  // Where there is no position, nothing can be delivered.
  const auto positioned = Build({4, 12}, c);
  const auto bare = Build({4, 12}, {"", PositionDelivery::VIT, c.class_token}, PositionEncoding::NONE);
  for (int64_t b = 0; b < 2; ++b) {
    for (const auto& [name, tensor] : ByName(*positioned)) {
      const at::Tensor& whole = weights.at(name);
      if (name != "pos_embed") {
        tensor.copy_(whole);
        continue;
      }
      const int64_t prefix = backbone->prefix_tokens();
      tensor.copy_(at::cat({whole.narrow(1, 0, prefix), whole.index_select(1, kept[b] + prefix)}, 1));
    }
    for (const auto& [name, tensor] : ByName(*bare)) tensor.copy_(weights.at(name));
    const at::Tensor image = SideBySide(images[b], kept[b]);
    EXPECT_LT(LargestDifference(positioned->Forward(image).tokens[0], with[b]), 1e-5);
    EXPECT_LT(LargestDifference(bare->Forward(image).tokens[0], without[b]), 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Deliveries, SelectionTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::to_string(info.index); });

}  // namespace
}  // namespace graticule
