#include "patch_mlp/patch_mlp.h"

#include "ATen/ops/randn.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace my_lab {
namespace {

using graticule::Backbone;
using graticule::Registry;

TEST(PatchMlpTest, GivesATokenAPatch) {
  PatchMlp config;
  config.set_patch_size(4);
  config.set_embed_dim(16);
  auto backbone = Registry<Backbone>::Create(config, {.image_size = {8, 12}, .contract = {.class_token = false}});
  ASSERT_TRUE(backbone.ok()) << backbone.status();
  EXPECT_EQ((*backbone)->Forward(at::randn({3, 3, 8, 12})).tokens.sizes(), (std::vector<int64_t>{3, 6, 16}));
}

TEST(PatchMlpTest, NamesAllMistakes) {
  const auto backbone = Registry<Backbone>::Create(PatchMlp(), {.image_size = {8, 8}});
  EXPECT_EQ(graticule::FieldErrors::FromStatus(backbone.status()).size(), 3);
}

}  // namespace
}  // namespace my_lab
