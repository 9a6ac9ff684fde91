#include "nn/patch_embed.h"

#include <cmath>

#include "ATen/ops/conv2d.h"
#include "ATen/ops/randn.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(PatchEmbedTest, IsTheConvolutionWithKernelAndStrideOfThePatch) {
  const PatchEmbed patch_embed(3, 4, 10);
  const auto parameters = patch_embed.Parameters();
  ASSERT_EQ(parameters[0].name, "proj.weight");
  ASSERT_EQ(parameters[1].name, "proj.bias");
  const at::Tensor images = at::randn({2, 3, 8, 20});
  const at::Tensor expected =
      at::conv2d(images, parameters[0].tensor, parameters[1].tensor, /*stride=*/4).flatten(2).transpose(1, 2);
  EXPECT_TRUE(patch_embed.Forward(images).allclose(expected, 1e-5, 1e-5));
  EXPECT_TRUE(patch_embed.Forward(images.contiguous(at::MemoryFormat::ChannelsLast)).allclose(expected, 1e-5, 1e-5));
}

TEST(PatchEmbedTest, StartsAsPyTorchsConvolution) {
  const double bound = 1 / std::sqrt(3.0 * 16 * 16);
  const PatchEmbed patch_embed(3, 16, 192);
  for (const NamedParameter& parameter : patch_embed.Parameters()) {
    EXPECT_LE(parameter.tensor.abs().max().item<double>(), bound) << parameter.name;
    EXPECT_GT(parameter.tensor.abs().max().item<double>(), 0.9 * bound) << parameter.name;
  }
}

}  // namespace
}  // namespace graticule
