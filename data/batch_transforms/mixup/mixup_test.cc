#include "data/batch_transforms/mixup/mixup.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/zeros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

Batch MakeBatch(const at::Tensor& images, const at::Tensor& labels) {
  return {.images = images.to(at::kByte).contiguous(at::MemoryFormat::ChannelsLast).clone(),
          .labels = labels.to(at::kLong).contiguous(),
          .soft_labels = {},
          .indices = std::vector<int64_t>(labels.size(0))};
}

std::unique_ptr<BatchTransform> Make(const Mixup& config, int64_t num_classes = 5) {
  auto transform = Registry<BatchTransform>::Create(config, {.num_classes = num_classes});
  EXPECT_TRUE(transform.ok()) << transform.status();
  return *std::move(transform);
}

std::vector<Mixing> Drawn(const Mixup& config, int64_t batch_size, uint64_t key, Size2d image = {64, 64}) {
  const auto transform = Make(config);
  Draws draws({key});
  return dynamic_cast<const MixupTransform&>(*transform).DrawMixings(batch_size, image, draws);
}

class MixTest : public testing::TestWithParam<std::string> {};

TEST_P(MixTest, IsTimmsFastCollateMixupUnderTheSameLambdasAndBoxes) {
  const Safetensors fixture = *ReadSafetensors("data/batch_transforms/mixup/testdata/mixup.safetensors");
  const auto find = [&](const char* name) { return fixture.Find(GetParam() + "/" + name); };
  Batch batch = MakeBatch(fixture.Find("images"), fixture.Find("labels"));
  std::vector<Mixing> mixings(batch.size());
  for (int64_t i = 0; i < batch.size(); ++i) {
    mixings[i].lambda = find("lambda")[i].item<double>();
    const int64_t* const box = find("box").data_ptr<int64_t>() + 4 * i;
    if (box[0] >= 0) mixings[i].box = Box{box[0], box[1], {box[2], box[3]}};
  }
  constexpr int64_t kClasses = 4;
  Mix(mixings, kClasses, batch);

  const at::Tensor difference = batch.images.to(at::kInt) - find("mixed").to(at::kInt);
  EXPECT_LE(difference.abs().max().item<int>(), 1);
  // 1 - lambda in single precision decides a rounding here and there.
  EXPECT_LE((difference != 0).sum().item<int64_t>(), difference.numel() / 100);
  // The task smooths labels afterwards: what timm does before it mixes.
  constexpr double kSmoothing = 0.1;
  const at::Tensor targets = batch.soft_labels * (1 - kSmoothing) + kSmoothing / kClasses;
  EXPECT_LE((targets - find("targets")).abs().max().item<double>(), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(All, MixTest, testing::Values("batch_mixup", "batch_cutmix", "pair", "elem"),
                         [](const auto& info) { return info.param; });

TEST(MixTest, BlendsAllValuesWithinOneHalf) {
  // Every pair of values, under many lambdas.
  const at::Tensor values = at::arange(256).to(at::kByte);
  const at::Tensor first = values.view({1, 1, 256, 1}).expand({1, 3, 256, 256});
  const at::Tensor second = values.view({1, 1, 1, 256}).expand({1, 3, 256, 256});
  for (const double lambda : {0.0, 1e-9, 0.1234, 0.5, 0.77, 0.999, 1.0}) {
    const at::Tensor both = at::zeros({2, 3, 256, 256}, at::kByte);
    both[0].copy_(first[0]);
    both[1].copy_(second[0]);
    Batch batch = MakeBatch(both, at::arange(2));
    Mix({{.lambda = lambda, .box = {}}, {.lambda = lambda, .box = {}}}, 2, batch);
    const at::Tensor expected = both.to(at::kDouble) * lambda + both.flip({0}).to(at::kDouble) * (1 - lambda);
    EXPECT_LE((batch.images.to(at::kDouble) - expected).abs().max().item<double>(), 0.5 + 1e-4) << lambda;
  }
}

TEST(MixTest, OddBatchesKeepTheirMiddle) {
  const at::Tensor images = at::arange(3 * 3 * 4 * 4).remainder(251).view({3, 3, 4, 4});
  for (const bool cutmix : {false, true}) {
    Batch batch = MakeBatch(images, at::arange(3));
    Mixing mixing{.lambda = 0.25, .box = {}};
    if (cutmix) mixing = {.lambda = 0.75, .box = Box{1, 1, {2, 2}}};
    Mix({mixing, mixing, mixing}, 3, batch);
    EXPECT_TRUE(at::equal(batch.images[1], images[1].to(at::kByte)));
    EXPECT_FALSE(at::equal(batch.images[0], images[0].to(at::kByte)));
    const double own = mixing.lambda;
    const std::array<float, 9> expected = {static_cast<float>(own),     0, static_cast<float>(1 - own), 0, 1, 0,
                                           static_cast<float>(1 - own), 0, static_cast<float>(own)};
    for (int i = 0; i < 9; ++i) EXPECT_FLOAT_EQ(batch.soft_labels.data_ptr<float>()[i], expected[i]) << i;
  }
}

TEST(MixTest, SoftLabelsThatAreThereAreMixed) {
  Batch batch = MakeBatch(at::zeros({2, 3, 2, 2}), at::zeros({2}));
  batch.soft_labels = at::full({2, 2}, 0.5);
  batch.soft_labels[0][0] = 0.8;
  batch.soft_labels[0][1] = 0.2;
  Mix({{.lambda = 0.75, .box = {}}, {.lambda = 1, .box = {}}}, 2, batch);
  EXPECT_NEAR(batch.soft_labels[0][0].item<double>(), 0.75 * 0.8 + 0.25 * 0.5, 1e-6);
  EXPECT_NEAR(batch.soft_labels[0][1].item<double>(), 0.75 * 0.2 + 0.25 * 0.5, 1e-6);
  EXPECT_EQ(batch.soft_labels[1][0].item<double>(), 0.5);
}

// A batch of black and white images tells by its pixels which share of each is whose; the labels must say the same.
TEST(MixupTest, LabelsSayWhatThePixelsShow) {
  for (const Mixup::Mode mode : {Mixup::BATCH, Mixup::PAIR, Mixup::ELEM}) {
    Mixup config;
    config.set_mode(mode);
    config.set_cutmix_alpha(1);
    config.set_probability(0.8);
    const auto transform = Make(config, 2);
    int unmixed = 0;
    for (uint64_t key = 0; key < 100; ++key) {
      const at::Tensor labels = at::arange(7).ge(4).to(at::kLong);
      Batch batch = MakeBatch(at::ones({7, 3, 16, 12}) * (labels * 255).view({7, 1, 1, 1}), labels);
      Draws draws({key});
      transform->Apply(batch, /*epoch=*/0, draws);
      const at::Tensor white = batch.images.to(at::kDouble).mean({1, 2, 3}) / 255;
      ASSERT_TRUE((batch.soft_labels.select(1, 1) - white).abs().max().item<double>() < 0.5 / 255 + 1e-6) << key;
      unmixed += at::equal(white, labels.to(at::kDouble));
    }
    // A batch that is not mixed at all: with probability 0.2 under BATCH. Boxes without a pixel are rare.
    EXPECT_NEAR(unmixed, mode == Mixup::BATCH ? 21 : 0, mode == Mixup::BATCH ? 16 : 6) << mode;
  }
}

TEST(MixupTest, ModesShareDrawsAsTimms) {
  Mixup config;
  const auto lambdas = [&](Mixup::Mode mode) {
    config.set_mode(mode);
    std::vector<double> lambdas;
    for (const Mixing& mixing : Drawn(config, 7, 3)) lambdas.push_back(mixing.lambda);
    return lambdas;
  };
  const std::vector<double> batch = lambdas(Mixup::BATCH), pair = lambdas(Mixup::PAIR), elem = lambdas(Mixup::ELEM);
  EXPECT_EQ(std::set<double>(batch.begin(), batch.end()).size(), 1u);
  EXPECT_EQ(std::set<double>(pair.begin(), pair.end()).size(), 4u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(pair[i], pair[6 - i]);
  EXPECT_EQ(pair[3], 1);
  EXPECT_EQ(std::set<double>(elem.begin(), elem.end()).size(), 7u);
}

TEST(MixupTest, ProbabilitiesAndLambdasAreThoseOfTheConfig) {
  Mixup config;
  config.set_mode(Mixup::ELEM);
  config.set_mixup_alpha(0.8);
  config.set_cutmix_alpha(1);
  config.set_probability(0.6);
  config.set_switch_probability(0.25);
  constexpr int kDraws = 40000;
  int mixed = 0, cut = 0;
  double sum = 0, sum2 = 0;
  for (const Mixing& mixing : Drawn(config, kDraws, 1)) {
    cut += mixing.box.has_value();
    if (mixing.box.has_value() || mixing.lambda == 1) continue;
    ++mixed;
    sum += mixing.lambda;
    sum2 += mixing.lambda * mixing.lambda;
  }
  EXPECT_NEAR(cut, 0.6 * 0.25 * kDraws, 5 * 75);
  EXPECT_NEAR(mixed, 0.6 * 0.75 * kDraws, 5 * 100);
  // Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
  EXPECT_NEAR(sum / mixed, 0.5, 0.012);
  EXPECT_NEAR(sum2 / mixed - 0.25, 1 / (4 * 2.6), 0.006);
}

TEST(MixupTest, OneOfBothNeedsNoSwitch) {
  Mixup config;
  config.set_mode(Mixup::ELEM);
  for (const Mixing& mixing : Drawn(config, 200, 1)) EXPECT_FALSE(mixing.box.has_value());
  config.set_mixup_alpha(0);
  config.set_cutmix_alpha(1);
  for (const Mixing& mixing : Drawn(config, 200, 1)) EXPECT_TRUE(mixing.box.has_value());
}

TEST(DrawCutMixBoxTest, IsTheShareAroundAUniformCentre) {
  // sqrt(1 - 0.64) = 0.6 of 101 and 61 are 60 and 36, their halves 30 and 18.
  const Size2d image{101, 61};
  std::set<int64_t> bottoms;
  double area = 0;
  constexpr int kDraws = 20000;
  for (uint64_t key = 0; key < kDraws; ++key) {
    Draws draws({key});
    const Box box = DrawCutMixBox(image, 0.64, draws);
    ASSERT_GE(box.top, 0);
    ASSERT_GE(box.left, 0);
    ASSERT_LE(box.top + box.size.height, image.height);
    ASSERT_LE(box.left + box.size.width, image.width);
    ASSERT_LE(box.size.height, 60);
    ASSERT_LE(box.size.width, 36);
    if (box.top > 0 && box.top + box.size.height < 101) {
      ASSERT_EQ(box.size.height, 60);
    }
    bottoms.insert(box.top + box.size.height);
    area += static_cast<double>(box.size.area()) / kDraws;
  }
  EXPECT_EQ(*bottoms.begin(), 30);
  EXPECT_EQ(*bottoms.rbegin(), 101);
  // Expected height: over centres y = 0 … 100, min(y + 30, 101) - max(y - 30, 0).
  double height = 0, width = 0;
  for (int y = 0; y < 101; ++y) height += (std::min(y + 30, 101) - std::max(y - 30, 0)) / 101.0;
  for (int x = 0; x < 61; ++x) width += (std::min(x + 18, 61) - std::max(x - 18, 0)) / 61.0;
  EXPECT_NEAR(area, height * width, 0.01 * height * width);
}

TEST(DrawCutMixBoxTest, MinAndMaxBoundTheSides) {
  std::set<int64_t> heights, widths, tops;
  for (uint64_t key = 0; key < 5000; ++key) {
    Draws draws({key});
    const Box box = DrawCutMixBox({20, 10}, Range{0.2, 0.8}, draws);
    heights.insert(box.size.height);
    widths.insert(box.size.width);
    tops.insert(box.top);
    ASSERT_LE(box.top + box.size.height, 20);
    ASSERT_LE(box.left + box.size.width, 10);
  }
  // numpy's randint leaves its upper end out.
  EXPECT_EQ(*heights.begin(), 4);
  EXPECT_EQ(*heights.rbegin(), 15);
  EXPECT_EQ(*widths.begin(), 2);
  EXPECT_EQ(*widths.rbegin(), 7);
  EXPECT_EQ(*tops.begin(), 0);
  EXPECT_EQ(*tops.rbegin(), 15);
  Draws draws({1});
  EXPECT_EQ(DrawCutMixBox({1, 1}, Range{0.2, 1}, draws).size, (Size2d{0, 0}));
}

TEST(MixupTest, MinAndMaxReplaceTheAlphaOfCutMix) {
  Mixup config;
  config.set_mixup_alpha(0);
  config.add_cutmix_minmax(0.5);
  config.add_cutmix_minmax(0.75);
  config.set_mode(Mixup::ELEM);
  for (const Mixing& mixing : Drawn(config, 100, 1)) {
    ASSERT_TRUE(mixing.box.has_value());
    EXPECT_GE(mixing.box->size.height, 32);
    EXPECT_LT(mixing.box->size.height, 48);
    EXPECT_EQ(mixing.lambda, 1 - static_cast<double>(mixing.box->size.area()) / (64 * 64));
  }
}

TEST(MixupTest, EndsWithTheEpochBeforeOffEpoch) {
  Mixup config;
  const auto mixes = [&config](int64_t epoch) {
    const at::Tensor images = at::arange(2 * 3 * 4 * 4).view({2, 3, 4, 4});
    Batch batch = MakeBatch(images, at::arange(2));
    Draws draws({5});
    Make(config)->Apply(batch, epoch, draws);
    EXPECT_EQ(batch.soft_labels.defined(), !at::equal(batch.images, images.to(at::kByte)));
    return batch.soft_labels.defined();
  };
  for (const int64_t epoch : {0, 174, 175, 299}) EXPECT_TRUE(mixes(epoch)) << epoch;
  config.set_off_epoch(175);
  for (const int64_t epoch : {0, 174}) EXPECT_TRUE(mixes(epoch)) << epoch;
  for (const int64_t epoch : {175, 299}) EXPECT_FALSE(mixes(epoch)) << epoch;
}

TEST(MixupTest, RejectsBadConfigsAllAtOnce) {
  const auto error = [](const Mixup& config) {
    return std::string(Registry<BatchTransform>::Create(config, {.num_classes = 2}).status().message());
  };
  Mixup config;
  config.set_mixup_alpha(-1);
  config.set_cutmix_alpha(1e-4);
  config.set_probability(1.5);
  config.set_switch_probability(-0.5);
  config.add_cutmix_minmax(0.5);
  config.set_off_epoch(-1);
  EXPECT_THAT(error(config), HasSubstr("mixup_alpha: must be 0 or in [0.001, 1000], found -1"));
  EXPECT_THAT(error(config), HasSubstr("cutmix_alpha: must be 0 or in [0.001, 1000], found 0.0001"));
  EXPECT_THAT(error(config), HasSubstr("probability: must be in [0, 1], found 1.5"));
  EXPECT_THAT(error(config), HasSubstr("switch_probability: must be in [0, 1], found -0.5"));
  EXPECT_THAT(error(config), HasSubstr("cutmix_minmax: must be two numbers in [0, 1], the lower first, found [0.5]"));
  EXPECT_THAT(error(config), HasSubstr("cutmix_alpha: has no effect beside cutmix_minmax"));
  EXPECT_THAT(error(config), HasSubstr("off_epoch: must not be negative, found -1"));
  Mixup nothing;
  nothing.set_mixup_alpha(0);
  EXPECT_THAT(error(nothing), HasSubstr("mixup_alpha, cutmix_alpha or cutmix_minmax must be given"));
}

}  // namespace
}  // namespace graticule
