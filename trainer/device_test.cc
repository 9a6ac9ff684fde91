#include "trainer/device.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/rand.h"
#include "ATen/ops/tensor.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

Trainer OnDevice(Trainer::Device device) {
  Trainer trainer;
  trainer.set_device(device);
  return trainer;
}

TEST(ChooseDeviceTest, TheCpuIsAlwaysThere) {
  const auto device = ChooseDevice(OnDevice(Trainer::CPU));
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(*device, c10::Device(c10::kCPU));
}

TEST(ChooseDeviceTest, WithoutCudaAutoIsTheCpuAndCudaAnError) {
  if (at::globalContext().hasCUDA()) GTEST_SKIP() << "this machine has CUDA";
  for (const Trainer::Device asked : {Trainer::AUTO, Trainer::DEVICE_UNSPECIFIED}) {
    const auto device = ChooseDevice(OnDevice(asked));
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ(*device, c10::Device(c10::kCPU));
  }
  const auto device = ChooseDevice(OnDevice(Trainer::CUDA));
  EXPECT_EQ(device.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("no CUDA device"));
}

TEST(ChooseDeviceTest, WithCudaAutoIsCuda) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "this machine has no CUDA";
  for (const Trainer::Device asked : {Trainer::AUTO, Trainer::DEVICE_UNSPECIFIED, Trainer::CUDA}) {
    const auto device = ChooseDevice(OnDevice(asked));
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ(*device, c10::Device(c10::kCUDA, 0));
  }
}

TEST(SeedDrawsTest, DrawsAreAFunctionOfTheKey) {
  const auto draw = [](std::initializer_list<uint64_t> key) {
    SeedDraws(key);
    return at::rand({16});
  };
  const at::Tensor first = draw({1, kDrawsOfStep, 7});
  at::rand({5});
  EXPECT_TRUE(at::equal(draw({1, kDrawsOfStep, 7}), first));
  EXPECT_FALSE(at::equal(draw({2, kDrawsOfStep, 7}), first));
  EXPECT_FALSE(at::equal(draw({1, kDrawsOfWeights, 7}), first));
  EXPECT_FALSE(at::equal(draw({1, kDrawsOfStep, 8}), first));
  EXPECT_FALSE(at::equal(draw({7, kDrawsOfStep, 1}), first));
}

class AutocastScopeTest : public testing::Test {
 protected:
  at::Tensor Linear() { return at::linear(at::ones({2, 4}), weight_); }

  at::Tensor weight_ = at::ones({3, 4}).set_requires_grad(true);
};

TEST_F(AutocastScopeTest, LinearIsBf16InsideAndFp32Outside) {
  {
    const AutocastScope scope(Trainer::BF16, c10::kCPU);
    EXPECT_EQ(Linear().scalar_type(), at::kBFloat16);
  }
  EXPECT_EQ(Linear().scalar_type(), at::kFloat);
  EXPECT_EQ(weight_.scalar_type(), at::kFloat);
}

TEST_F(AutocastScopeTest, ANestedScopeRestoresTheOuter) {
  {
    const AutocastScope outer(Trainer::BF16, c10::kCPU);
    {
      const AutocastScope inner(Trainer::BF16, c10::kCPU);
      EXPECT_EQ(Linear().scalar_type(), at::kBFloat16);
    }
    EXPECT_EQ(Linear().scalar_type(), at::kBFloat16);
  }
  EXPECT_EQ(Linear().scalar_type(), at::kFloat);
}

TEST_F(AutocastScopeTest, Fp32ChangesNothing) {
  for (const Trainer::Precision precision : {Trainer::FP32, Trainer::PRECISION_UNSPECIFIED}) {
    const AutocastScope scope(precision, c10::kCPU);
    EXPECT_EQ(Linear().scalar_type(), at::kFloat);
  }
  const AutocastScope bf16(Trainer::BF16, c10::kCPU);
  const AutocastScope fp32(Trainer::FP32, c10::kCPU);
  EXPECT_EQ(Linear().scalar_type(), at::kBFloat16);
}

// Autocast keeps cast copies of weights; a step must not see those of the one before.
TEST_F(AutocastScopeTest, TheNextScopeSeesChangedWeights) {
  {
    const AutocastScope scope(Trainer::BF16, c10::kCPU);
    EXPECT_EQ(Linear()[0][0].item<float>(), 4);
  }
  {
    c10::NoGradGuard no_grad;
    weight_.fill_(2);
  }
  const AutocastScope scope(Trainer::BF16, c10::kCPU);
  EXPECT_EQ(Linear()[0][0].item<float>(), 8);
}

TEST_F(AutocastScopeTest, GradientsReachTheWeightsInFp32) {
  at::Tensor loss;
  {
    const AutocastScope scope(Trainer::BF16, c10::kCPU);
    loss = Linear().sum();
  }
  loss.backward();
  EXPECT_EQ(weight_.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(weight_.grad(), at::ones({3, 4}).mul(2)));
}

// Pixels [2,3,2,2], all different, as the loader hands them over: uint8 in channels-last memory.
at::Tensor Pixels() {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 24; ++i) values.push_back(i * 11);
  return at::tensor(values).view({2, 3, 2, 2}).to(at::kByte).contiguous(at::MemoryFormat::ChannelsLast);
}

void ExpectNormalized(const at::Tensor& normalized, const std::vector<double>& mean, const std::vector<double>& std) {
  EXPECT_EQ(normalized.scalar_type(), at::kFloat);
  EXPECT_TRUE(normalized.is_contiguous());
  ASSERT_EQ(normalized.sizes(), (std::vector<int64_t>{2, 3, 2, 2}));
  for (int b = 0; b < 2; ++b) {
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 2; ++y) {
        for (int x = 0; x < 2; ++x) {
          const double pixel = 11 * (((b * 3 + c) * 2 + y) * 2 + x);
          EXPECT_NEAR(normalized[b][c][y][x].item<double>(), (pixel / 255 - mean[c]) / std[c], 1e-5);
        }
      }
    }
  }
}

TEST(NormalizerTest, IsImageNetsByDefault) {
  ExpectNormalized(Normalizer(Data(), c10::kCPU)(Pixels()), {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225});
}

TEST(NormalizerTest, TakesMeanAndStdOfTheChannels) {
  const std::vector<double> mean = {0.1, 0.5, 0.9}, std = {0.25, 0.5, 2};
  Data data;
  for (const double value : mean) data.add_mean(value);
  for (const double value : std) data.add_std(value);
  ExpectNormalized(Normalizer(data, c10::kCPU)(Pixels()), mean, std);
}

TEST(NormalizerTest, ABatchKeepsEverythingElse) {
  const Normalizer normalize(Data(), c10::kCPU);
  Batch batch{.images = Pixels(), .labels = at::tensor({3, 1}, at::kLong), .indices = {8, 5}};
  Batch ready = normalize(batch);
  EXPECT_TRUE(at::equal(ready.images, normalize(batch.images)));
  EXPECT_TRUE(at::equal(ready.labels, batch.labels));
  EXPECT_EQ(ready.indices, batch.indices);
  EXPECT_FALSE(ready.soft_labels.defined());
  EXPECT_EQ(batch.images.scalar_type(), at::kByte);

  batch.soft_labels = at::rand({2, 4});
  EXPECT_TRUE(at::equal(normalize(batch).soft_labels, batch.soft_labels));
}

}  // namespace
}  // namespace graticule
