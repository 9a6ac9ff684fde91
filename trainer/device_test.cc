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

TEST(Tf32Test, IsSetBothWays) {
  Trainer trainer;
  for (const bool tf32 : {true, false, true, false}) {
    trainer.set_tf32(tf32);
    SetTf32(trainer);
    const at::Context& context = at::globalContext();
    EXPECT_EQ(context.allowTF32CuBLAS(), tf32);
    EXPECT_EQ(context.allowTF32CuDNN(), tf32);
    for (const at::Float32Op op : {at::Float32Op::MATMUL, at::Float32Op::CONV}) {
      EXPECT_EQ(context.float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::TF32, tf32);
      EXPECT_NE(context.float32Precision(at::Float32Backend::MKLDNN, op), at::Float32Precision::TF32);
    }
  }
}

TEST(AutocastScopeTest, CastsToWhatThePrecisionSays) {
  const at::Tensor weight = at::ones({3, 4});
  const auto dtype = [&](Trainer::Precision precision) {
    const AutocastScope scope(precision, c10::kCPU);
    return at::linear(at::ones({2, 4}), weight).scalar_type();
  };
  EXPECT_EQ(dtype(Trainer::PRECISION_UNSPECIFIED), at::kFloat);
  EXPECT_EQ(dtype(Trainer::FP32), at::kFloat);
  EXPECT_EQ(dtype(Trainer::BF16), at::kBFloat16);
  EXPECT_EQ(dtype(Trainer::FP16), at::kHalf);
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
