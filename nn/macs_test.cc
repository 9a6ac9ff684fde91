#include "nn/macs.h"

#include <cmath>
#include <memory>
#include <vector>

#include "ATen/ops/conv2d.h"
#include "ATen/ops/conv_transpose2d.h"
#include "ATen/ops/einsum.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/matmul.h"
#include "ATen/ops/zeros.h"
#include "gtest/gtest.h"
#include "nn/patch_embed.h"
#include "nn/transformer_block.h"

namespace graticule {
namespace {

// A ViT without positions and class token, of blocks in nn/; `Forward` takes the tokens that a class token makes 1+N.
class SmallestVit : public Module {
 public:
  SmallestVit(int64_t patch, int64_t width, int64_t heads, int64_t depth, int64_t classes)
      : patch_embed_(3, patch, width), head_(width, classes) {
    RegisterModule("patch_embed", &patch_embed_);
    TransformerBlockOptions options;
    options.attention = {.width = width, .heads = heads};
    options.mlp_hidden = 4 * width;
    for (int64_t i = 0; i < depth; ++i) {
      blocks_.push_back(RegisterModule("blocks." + std::to_string(i), std::make_unique<TransformerBlock>(options)));
    }
    RegisterModule("head", &head_);
  }

  void Forward(const at::Tensor& images) {
    const at::Tensor patches = patch_embed_.Forward(images);
    at::Tensor x = at::empty({images.size(0), patches.size(1) + 1, patches.size(2)}, patches.options());
    for (TransformerBlock* block : blocks_) x = block->Forward(x, at::Tensor());
    head_.Forward(x.select(1, 0));
  }

 private:
  PatchEmbed patch_embed_;
  std::vector<TransformerBlock*> blocks_;
  Linear head_;
};

MacCount CountVit(int64_t patch, int64_t width, int64_t heads, int64_t depth) {
  MetaScope meta;
  SmallestVit vit(patch, width, heads, depth, 1000);
  return CountMacs(vit.Parameters(), [&] {
    vit.Forward(at::empty({1, 3, 224, 224}, at::TensorOptions().device(at::kMeta)));
  });
}

at::Tensor Zeros(at::IntArrayRef shape) { return at::zeros(shape, at::kFloat); }

TEST(MacsTest, VitEqualsTheFormula) {
  const int64_t n = 14 * 14, t = n + 1, d = 192, depth = 12;
  const int64_t embedding = n * (3 * 16 * 16) * d;
  const int64_t weights = t * d * (3 * d + d + 4 * d + 4 * d);
  const int64_t attention = 2 * t * t * d;
  const MacCount count = CountVit(16, d, 3, depth);
  EXPECT_EQ(count.total, embedding + depth * (weights + attention) + d * 1000);
  EXPECT_EQ(count.by_operator, (std::map<std::string, int64_t>{{"scaled_dot_product_attention", depth * attention}}));
  EXPECT_EQ(count.by_parameter.at("patch_embed.proj.weight"), embedding);
  EXPECT_EQ(count.by_parameter.at("blocks.3.attn.qkv.weight"), t * d * 3 * d);
  EXPECT_EQ(count.by_parameter.at("head.weight"), d * 1000);
}

// torchvision 0.26 publishes 17.564 (ViT-B/16), 4.409 (B/32) and 61.555 (L/16) GMACs; DeiT-Ti's table says 1.3.
TEST(MacsTest, VitsEqualPublishedFigures) {
  const auto giga = [](const MacCount& count) { return std::round(count.total / 1e6) / 1e3; };
  EXPECT_EQ(giga(CountVit(16, 768, 12, 12)), 17.564);
  EXPECT_EQ(giga(CountVit(32, 768, 12, 12)), 4.409);
  EXPECT_EQ(giga(CountVit(16, 1024, 16, 24)), 61.555);
}

TEST(MacsTest, TheCpuCountsAsTheMetaDevice) {
  SmallestVit vit(16, 32, 2, 2, 10);
  const MacCount cpu = CountMacs(vit.Parameters(), [&] { vit.Forward(Zeros({2, 3, 32, 48})); });
  MetaScope meta;
  SmallestVit shapes(16, 32, 2, 2, 10);
  const MacCount of_shapes = CountMacs(shapes.Parameters(), [&] {
    shapes.Forward(at::empty({2, 3, 32, 48}, at::TensorOptions().device(at::kMeta)));
  });
  EXPECT_EQ(cpu.total, of_shapes.total);
  EXPECT_EQ(cpu.by_parameter, of_shapes.by_parameter);
  EXPECT_EQ(cpu.by_operator, of_shapes.by_operator);
}

TEST(MacsTest, Convolutions) {
  const at::Tensor x = Zeros({2, 6, 9, 11});
  // 3×3, stride 2, padding 1: 5×6 pixels.
  EXPECT_EQ(CountMacs({}, [&] { at::conv2d(x, Zeros({8, 6, 3, 3}), {}, 2, 1); }).total, 2 * 8 * 5 * 6 * 6 * 9);
  // Depthwise, dilation 2, padding 1: 7×9 pixels.
  EXPECT_EQ(CountMacs({}, [&] { at::conv2d(x, Zeros({6, 1, 3, 3}), {}, 1, 1, 2, 6); }).total, 2 * 6 * 7 * 9 * 9);
  // Transposed: each of the 9×11 input pixels is spread over the filters.
  EXPECT_EQ(CountMacs({}, [&] { at::conv_transpose2d(x, Zeros({6, 4, 2, 2}), {}, 2); }).total, 2 * 9 * 11 * 6 * 4 * 4);
}

TEST(MacsTest, ProductsOfEveryRank) {
  const auto product = [](at::IntArrayRef a, at::IntArrayRef b) {
    return CountMacs({}, [&] { at::matmul(Zeros(a), Zeros(b)); }).total;
  };
  EXPECT_EQ(product({5}, {5}), 5);
  EXPECT_EQ(product({4, 5}, {5}), 20);
  EXPECT_EQ(product({4, 5}, {5, 6}), 120);
  EXPECT_EQ(product({2, 3, 4, 5}, {5, 6}), 2 * 3 * 120);
  EXPECT_EQ(product({2, 1, 4, 5}, {3, 5, 6}), 2 * 3 * 120);
  EXPECT_EQ(CountMacs({}, [&] { at::einsum("bik,bjk->bij", {Zeros({2, 4, 5}), Zeros({2, 6, 5})}); }).total, 2 * 120);
}

}  // namespace
}  // namespace graticule
