#include <memory>

#include "ATen/ops/equal.h"
#include "ATen/ops/randn.h"
#include "pooling/pooling.h"
#include "tests/conformance/conformance.h"

namespace graticule {
namespace {

class PoolingConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  std::unique_ptr<Pooling> Make() {
    auto pooling = Registry<Pooling>::Create(Example(GetParam()), {});
    EXPECT_TRUE(pooling.ok()) << pooling.status();
    (*pooling)->Build(16);
    return *std::move(pooling);
  }

  TokenMap Map(const Pooling& pooling, int64_t batch, Size2d grid) {
    const int64_t prefix = pooling.contract().class_token ? 1 : 0;
    return {.tokens = at::randn({batch, prefix + grid.area(), 16}), .prefix_tokens = prefix, .grid = grid};
  }
};

TEST_P(PoolingConformance, GivesAVectorAnImage) {
  const auto pooling = Make();
  for (const int64_t batch : {1, 3}) {
    for (const Size2d grid : {Size2d{1, 1}, Size2d{4, 4}, Size2d{3, 5}}) {
      const at::Tensor pooled = pooling->Forward(Map(*pooling, batch, grid));
      EXPECT_EQ(pooled.sizes(), (std::vector<int64_t>{batch, 16}));
      EXPECT_TRUE(pooled.isfinite().all().item<bool>());
    }
  }
}

TEST_P(PoolingConformance, ImagesDoNotMix) {
  const auto pooling = Make();
  pooling->SetTraining(false);
  TokenMap both = Map(*pooling, 2, {4, 4});
  const at::Tensor pooled = pooling->Forward(both);
  TokenMap second = both;
  second.tokens = both.tokens.narrow(0, 1, 1);
  EXPECT_TRUE(pooling->Forward(second).allclose(pooled.narrow(0, 1, 1)));
}

TEST_P(PoolingConformance, GradientsReachTokensAndParameters) {
  const auto pooling = Make();
  TokenMap map = Map(*pooling, 2, {2, 3});
  map.tokens.set_requires_grad(true);
  const at::Tensor pooled = pooling->Forward(map);
  pooled.mul(at::randn(pooled.sizes())).sum().backward();
  EXPECT_TRUE(map.tokens.grad().isfinite().all().item<bool>());
  EXPECT_GT(map.tokens.grad().abs().sum().item<double>(), 0);
  ExpectFiniteGradients(*pooling);
}

TEST_P(PoolingConformance, WeightsGoThroughAFile) {
  const auto a = Make(), b = Make();
  Restore(Save(*a), *b);
  const TokenMap map = Map(*a, 2, {2, 2});
  EXPECT_TRUE(at::equal(a->Forward(map), b->Forward(map)));
}

TEST_P(PoolingConformance, BadConfigsAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto pooling = Registry<Pooling>::Create(config, {});
    EXPECT_TRUE(pooling.ok() || IsUserError(pooling.status())) << pooling.status();
  }
}

INSTANTIATE_TEST_SUITE_P(All, PoolingConformance, testing::ValuesIn(RegisteredPlugins("pooling")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PoolingConformance);

}  // namespace
}  // namespace graticule
