// Training on a GPU: `./bazelw test --config=cuda //tests:cuda_test` where there is one.
//
// GRATICULE_TEST_DEVICE=CPU lets the test itself be tried without one.
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/TensorOperators.h"
#include "ATen/core/Tensor.h"
#include "ATen/detail/CUDAHooksInterface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "tests/program.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (device_ == "CUDA" && !at::globalContext().hasCUDA()) GTEST_SKIP() << "this build or machine has no CUDA";
    // Rates at which the weights go far in a few steps, so that what is lost shows.
    for (const char* setting : {"trainer.epochs=6", "trainer.learning_rate=0.02", "trainer.ema_decay=0.5"}) {
      common_.insert(common_.end(), {"--set", setting});
    }
    common_.insert(common_.end(), {"--set", "trainer.schedule=Constant", "--set", "trainer.device=" + device_});
  }
  static int Gpus() { return at::globalContext().hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0; }

  // Trains TinySpec for 24 steps, or 10 and then the rest where `stopped`.
  std::string Train(const std::string& name, const std::vector<std::string>& more, bool stopped = false) const {
    const std::string spec = folder_ + "/spec.textproto";
    WriteText(spec, TinySpec());
    std::vector<std::string> arguments = {"train", spec, "--output=" + folder_ + "/" + name, "--allow-changed-spec"};
    arguments.insert(arguments.end(), common_.begin(), common_.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    if (stopped) {
      std::vector<std::string> first = arguments;
      first.insert(first.end(), {"--set", "trainer.max_steps=10"});
      EXPECT_EQ(RunProgram(first).exit_code, 0);
    }
    const ProgramResult result = RunProgram(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (stopped) EXPECT_THAT(result.out, HasSubstr("resumed at step 10"));
    return folder_ + "/" + name;
  }

  // Of the weights of two checkpoints.
  static double Distance(const std::string& a, const std::string& b, const std::string& file) {
    const std::string path = "/checkpoints/last/" + file + ".safetensors";
    const auto x = ReadSafetensors(a + path), y = ReadSafetensors(b + path);
    EXPECT_TRUE(x.ok() && y.ok());
    double sum = 0;
    for (const auto& [name, tensor] : x->tensors) {
      if (tensor.is_floating_point()) sum += tensor.sub(y->Find(name)).square().sum().item<double>();
    }
    return std::sqrt(sum);
  }

  // How far apart the weights of two runs are, in shares of the way that one of them went.
  double Apart(const std::string& a, const std::string& b, const std::string& file = "model") {
    if (start_.empty())
      start_ = Train("start", {"--set", "trainer.learning_rate=1e-12", "--set", "trainer.max_steps=1"});
    return Distance(a, b, file) / Distance(a, start_, file);
  }

  const char* const chosen_ = std::getenv("GRATICULE_TEST_DEVICE");
  const std::string device_ = chosen_ != nullptr ? chosen_ : "CUDA";
  const std::string folder_ = FreshFolder("work");
  std::vector<std::string> common_;
  std::string start_;
};

std::vector<std::string> With(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Nothing random in the model: GPUs draw other numbers. Sums in another order make Adam go another way where a gradient
// is next to nothing, so it is SGD that is compared.
std::vector<std::string> Plain() {
  return {"--set", "backbone.drop_path_rate=0", "--set", "trainer.optimizer=Sgd", "--set", "trainer.learning_rate=0.5"};
}

TEST_F(CudaTest, LearnsWhatTheCpuLearns) {
  const std::string cpu = Train("cpu", With(Plain(), {"--set", "trainer.device=CPU"}));
  EXPECT_LT(Apart(cpu, Train("fp32", Plain())), 1e-3);
  EXPECT_LT(Apart(cpu, Train("bf16", With(Plain(), {"--set", "trainer.precision=BF16"}))), 0.1);
  EXPECT_LT(Apart(cpu, Train("fp16", With(Plain(), {"--set", "trainer.precision=FP16"}))), 0.05);
  // What such a distance is where something is not as it was.
  EXPECT_GT(Apart(cpu, Train("other", With(Plain(), {"--set", "trainer.seed=1"}))), 0.3);
}

TEST_F(CudaTest, GoesOnFromACheckpoint) {
  for (const char* optimizer : {"AdamW", "Sgd", "Lamb", "Lion", "Muon"}) {
    SCOPED_TRACE(optimizer);
    for (const char* precision : {"FP32", "FP16"}) {
      SCOPED_TRACE(precision);
      const std::vector<std::string> more = {"--set", std::string("trainer.optimizer=") + optimizer, "--set",
                                             std::string("trainer.precision=") + precision};
      const std::string name = std::string(optimizer) + precision;
      const std::string whole = Train("whole" + name, more), resumed = Train("resumed" + name, more, /*stopped=*/true);
      for (const char* file : {"model", "ema", "objectives"}) EXPECT_LT(Apart(whole, resumed, file), 0.02) << file;
    }
  }
}

TEST_F(CudaTest, CheckpointedActivationsDrawWhatTheFirstPassDrew) {
  const std::vector<std::string> more = With(Plain(), {"--set", "backbone.drop_path_rate=0.5"});
  const std::string plain = Train("plain", more);
  EXPECT_LT(Apart(plain, Train("checkpointed", With(more, {"--set", "trainer.activation_checkpointing=true"}))), 1e-3);
  EXPECT_GT(Apart(plain, Train("undropped", Plain())), 0.02);
}

TEST_F(CudaTest, NumbersThatAreNoneAreSaid) {
  const std::string spec = folder_ + "/spec.textproto";
  WriteText(spec, TinySpec());
  const ProgramResult result = RunProgram({"train", spec, "--output=" + folder_ + "/nan", "--set",
                                           "trainer.device=" + device_, "--set", "trainer.learning_rate=1e30"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), HasSubstr("not finite"));
}

TEST_F(CudaTest, TwoGpusLearnWhatOneDoes) {
  if (device_ == "CUDA" && Gpus() < 2) GTEST_SKIP() << "this machine has " << Gpus() << " GPU, and two are wanted";
  std::vector<std::string> one = With(Plain(), {"--set", "trainer.accumulation_steps=1"});
  std::vector<std::string> two = With(one, {"--processes=2"});
  const std::string whole = Train("two", two);
  EXPECT_LT(Apart(Train("one", one), whole), 1e-3);
  EXPECT_LT(Apart(whole, Train("resumed", two, /*stopped=*/true)), 1e-3);
}

}  // namespace
}  // namespace graticule
