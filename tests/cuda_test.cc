// Training on a GPU: of `./bazelw test --config=cuda //tests:cuda_test` where there is one.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/detail/CUDAHooksInterface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/program.h"

namespace graticule {
namespace {

using ::testing::HasSubstr;

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "this build or machine has no CUDA";
  }
  static int Gpus() { return at::detail::getCUDAHooks().deviceCount(); }

  // Trains TinySpec for 24 steps, in two goes where `stop_at` is one of them.
  std::string Train(const std::string& name, const std::vector<std::string>& more, int stop_at = 0) const {
    const std::string spec = folder_ + "/spec.textproto";
    WriteText(spec, TinySpec());
    std::vector<std::string> arguments = {
        "train", spec, "--output=" + folder_ + "/" + name, "--set", "trainer.device=CUDA", "--set", "trainer.epochs=6"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    if (stop_at > 0) {
      std::vector<std::string> first = arguments;
      first.insert(first.end(), {"--set", "trainer.schedule={ [type.googleapis.com/graticule.Constant] {} }", "--set",
                                 "trainer.max_steps=" + std::to_string(stop_at)});
      EXPECT_EQ(RunProgram(first).exit_code, 0);
      arguments.insert(arguments.end(), {"--set", "trainer.schedule={ [type.googleapis.com/graticule.Constant] {} }",
                                         "--allow-changed-spec"});
    }
    const ProgramResult result = RunProgram(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (stop_at > 0) EXPECT_THAT(result.out, HasSubstr("resumed at step " + std::to_string(stop_at)));
    return folder_ + "/" + name;
  }

  static std::map<double, double> Losses(const std::string& run) {
    std::map<double, double> losses;
    for (const auto& row : ReadMetrics(run)) {
      if (row.contains("train/loss")) losses[row.at("step")] = row.at("train/loss");
    }
    return losses;
  }
  static void ExpectNear(const std::string& a, const std::string& b, double tolerance) {
    const auto x = Losses(a), y = Losses(b);
    ASSERT_FALSE(x.empty());
    ASSERT_EQ(x.size(), y.size());
    for (const auto& [step, loss] : x) {
      EXPECT_TRUE(std::isfinite(loss));
      EXPECT_NEAR(loss, y.at(step), tolerance) << "step " << step;
    }
  }

  const std::string folder_ = FreshFolder("work");
};

// Nothing random in the model: GPUs draw other numbers.
const std::vector<std::string> kPlain = {"--set", "backbone.drop_path_rate=0"};

std::vector<std::string> With(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST_F(CudaTest, LearnsWhatTheCpuLearns) {
  const std::string cpu = Train("cpu", With(kPlain, {"--set", "trainer.device=CPU"}));
  ExpectNear(cpu, Train("cuda", kPlain), 2e-3);
  for (const char* precision : {"BF16", "FP16"}) {
    ExpectNear(cpu, Train(precision, With(kPlain, {"--set", std::string("trainer.precision=") + precision})), 5e-2);
  }
}

TEST_F(CudaTest, GoesOnFromACheckpoint) {
  for (const char* optimizer : {"AdamW", "Sgd", "Lamb", "Lion", "Muon"}) {
    SCOPED_TRACE(optimizer);
    const std::vector<std::string> more = {
        "--set", std::string("trainer.optimizer={ [type.googleapis.com/graticule.") + optimizer + "] {} }", "--set",
        "trainer.precision=FP16"};
    const std::string schedule = "trainer.schedule={ [type.googleapis.com/graticule.Constant] {} }";
    ExpectNear(Train(std::string("whole") + optimizer, With(more, {"--set", schedule})),
               Train(std::string("resumed") + optimizer, more, /*stop_at=*/10), 5e-2);
  }
}

TEST_F(CudaTest, CheckpointedActivationsDrawWhatTheFirstPassDrew) {
  ExpectNear(Train("plain", {}), Train("checkpointed", {"--set", "trainer.activation_checkpointing=true"}), 2e-3);
}

TEST_F(CudaTest, NumbersThatAreNoneAreSaid) {
  Train("run", {"--set", "trainer.precision=FP16", "--set", "trainer.guard.on_non_finite=SKIP"});
  const std::string spec = folder_ + "/spec.textproto";
  const ProgramResult result = RunProgram({"train", spec, "--output=" + folder_ + "/nan", "--set",
                                           "trainer.device=CUDA", "--set", "trainer.learning_rate=1e30"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), HasSubstr("not finite"));
}

TEST_F(CudaTest, TwoGpusLearnWhatOneDoes) {
  if (Gpus() < 2) GTEST_SKIP() << "this machine has " << Gpus() << " GPU, and two are wanted";
  const std::vector<std::string> plain = With(kPlain, {"--set", "trainer.accumulation_steps=1"});
  const std::vector<std::string> two = With(plain, {"--processes=2"});
  const std::string one = Train("one", plain);
  ExpectNear(one, Train("two", two), 2e-3);
  const std::vector<std::string> sgd =
      With(two, {"--set", "trainer.optimizer={ [type.googleapis.com/graticule.Sgd] { momentum: 0.9 } }"});
  Train("sgd", sgd, /*stop_at=*/10);
}

}  // namespace
}  // namespace graticule
