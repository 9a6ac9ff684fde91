#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/tensor.h"
#include "tasks/task.h"
#include "tests/conformance/conformance.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/schedules/schedule.h"
#include "trainer/sinks/sink.h"

namespace graticule {
namespace {

// A task of every backbone that is linked, with the first pooling whose contract it meets and every objective.
class TaskConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  std::unique_ptr<Task> Make(uint64_t seed = 1) {
    TaskContext context{.image_size = {32, 32}, .class_names = {"a", "b", "c", "d", "e", "f", "g"}};
    for (const PluginInfo& objective : RegisteredPlugins("objective")) {
      *context.objectives.emplace_back().mutable_objective() = Example(objective);
    }
    absl::Status last;
    for (const PluginInfo& backbone : RegisteredPlugins("backbone")) {
      for (const PluginInfo& pooling : RegisteredPlugins("pooling")) {
        context.backbone = Example(backbone);
        context.pooling = Example(pooling);
        at::manual_seed(seed);
        auto task = Registry<Task>::Create(Example(GetParam()), context);
        if (task.ok()) return *std::move(task);
        last = task.status();
      }
    }
    ADD_FAILURE() << "fits no backbone and pooling: " << last;
    return nullptr;
  }

  Batch MakeBatch() {
    return {
        .images = at::randn({4, 3, 32, 32}), .labels = at::tensor({0, 6, 2, 3}, at::kLong), .indices = {0, 1, 2, 3}};
  }
};

TEST_P(TaskConformance, ATrainingStepReachesEveryParameter) {
  const auto task = Make();
  const TaskOutput output = task->Train(MakeBatch(), 0.5);
  EXPECT_EQ(output.loss.dim(), 0);
  EXPECT_TRUE(output.loss.isfinite().item<bool>());
  const auto metrics = output.metrics.Means();
  EXPECT_TRUE(metrics.count("loss"));
  output.loss.backward();
  ExpectFiniteGradients(*task);
}

TEST_P(TaskConformance, EvaluationReportsWhatItNames) {
  const auto task = Make();
  task->SetTraining(false);
  Metrics metrics;
  task->Evaluate(MakeBatch(), metrics);
  const auto means = metrics.Means();
  const std::vector<std::string> names = task->EvaluationMetrics();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(means.size(), names.size());
  for (const std::string& name : names) EXPECT_TRUE(means.count(name)) << name;
  for (const auto& [name, value] : means) EXPECT_TRUE(std::isfinite(value)) << name;
}

TEST_P(TaskConformance, PredictionsComeFromTheSavedModel) {
  const auto a = Make(1), b = Make(2);
  a->SetTraining(false);
  b->SetTraining(false);
  Restore(Save(*a), *b);
  const at::Tensor images = at::randn({2, 3, 32, 32});
  const PredictOptions options{.tokens = true, .objectives = true};
  const auto from_a = a->Predict(images, options), from_b = b->Predict(images, options);
  ASSERT_TRUE(from_a.count("logits"));
  ASSERT_TRUE(from_a.count("tokens"));
  for (const auto& [name, tensor] : from_a) EXPECT_TRUE(at::equal(tensor, from_b.at(name))) << name;
}

TEST_P(TaskConformance, ModelAndObjectivesShareOutAllParameters) {
  const auto task = Make();
  size_t count = task->ModelParameters().size();
  for (const auto& [name, parameters] : task->ObjectiveParameters()) count += parameters.size();
  EXPECT_EQ(count, task->Parameters().size());
}

TEST_P(TaskConformance, BadConfigsAreErrorsNotCrashes) {
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto task = Registry<Task>::Create(config, {.image_size = {32, 32}, .class_names = {"a"}});
    EXPECT_TRUE(IsUserError(task.status())) << task.status();  // there is no backbone either
  }
}

INSTANTIATE_TEST_SUITE_P(All, TaskConformance, testing::ValuesIn(RegisteredPlugins("task")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TaskConformance);

class OptimizerConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  // Two weights with the loss Σ (w − 1)², and one that never gets a gradient.
  struct Problem {
    at::Tensor matrix = at::ones({3, 2}).mul(4).set_requires_grad(true);
    at::Tensor vector = at::ones({5}).mul(-3).set_requires_grad(true);
    at::Tensor unused = at::ones({2}).set_requires_grad(true);

    double Loss() const {
      return matrix.detach().sub(1).square().sum().item<double>() +
             vector.detach().sub(1).square().sum().item<double>();
    }
    void ComputeGradients() {
      for (at::Tensor* w : {&matrix, &vector}) w->mutable_grad() = w->detach().sub(1).mul(2);
    }
    OptimizerContext Context() {
      return {{{"matrix", matrix, 1, 1, TrainedParameter::Role::kMatrix},
               {"vector", vector, 1, 0},
               {"unused", unused, 1, 0}}};
    }
  };

  std::unique_ptr<Optimizer> Make(Problem& problem) {
    auto optimizer = Registry<Optimizer>::Create(Example(GetParam()), problem.Context());
    EXPECT_TRUE(optimizer.ok()) << optimizer.status();
    return *std::move(optimizer);
  }
};

TEST_P(OptimizerConformance, GoesDownhillAndLeavesWhatHasNoGradient) {
  Problem problem;
  const auto optimizer = Make(problem);
  const double before = problem.Loss();
  for (int i = 0; i < 50; ++i) {
    problem.ComputeGradients();
    optimizer->Step(0.05);
  }
  EXPECT_LT(problem.Loss(), 0.9 * before);
  EXPECT_TRUE(at::equal(problem.unused, at::ones({2})));
}

TEST_P(OptimizerConformance, ScalesTheRateOfAParameter) {
  Problem a, b;
  OptimizerContext context = a.Context();
  context.parameters[0].learning_rate_scale = 0.5;
  context.parameters[1].learning_rate_scale = 0;
  const auto scaled = Registry<Optimizer>::Create(Example(GetParam()), context);
  ASSERT_TRUE(scaled.ok()) << scaled.status();
  const auto plain = Make(b);
  a.ComputeGradients();
  (*scaled)->Step(0.1);
  b.ComputeGradients();
  plain->Step(0.05);
  EXPECT_TRUE(at::equal(a.matrix, b.matrix));
  EXPECT_FALSE(at::equal(a.matrix, Problem().matrix));
  EXPECT_TRUE(at::equal(a.vector, Problem().vector));
}

TEST_P(OptimizerConformance, GoesOnFromASavedState) {
  Problem a, b;
  const auto first = Make(a);
  for (int i = 0; i < 3; ++i) {
    a.ComputeGradients();
    first->Step(0.1);
  }
  b.matrix.detach().copy_(a.matrix.detach());
  b.vector.detach().copy_(a.vector.detach());
  const auto second = Make(b);
  const auto state = ParseSafetensors(SerializeSafetensors(first->State()));
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_TRUE(second->LoadState(*state).ok());
  for (int i = 0; i < 3; ++i) {
    a.ComputeGradients();
    first->Step(0.1);
    b.ComputeGradients();
    second->Step(0.1);
  }
  EXPECT_TRUE(at::equal(a.matrix, b.matrix));
  EXPECT_TRUE(at::equal(a.vector, b.vector));
}

TEST_P(OptimizerConformance, RefusesAStateOfOtherParameters) {
  Problem problem;
  const auto optimizer = Make(problem);
  Safetensors state = optimizer->State();
  for (auto& [name, tensor] : state.tensors) name += ".other";
  if (!state.tensors.empty()) EXPECT_FALSE(optimizer->LoadState(state).ok());
}

TEST_P(OptimizerConformance, RefusesTheStateOfAnotherOptimizer) {
  Problem problem;
  const auto optimizer = Make(problem);
  for (const PluginInfo& info : RegisteredPlugins("optimizer")) {
    if (info.name == GetParam().name) continue;
    const auto other = Registry<Optimizer>::Create(Example(info), problem.Context());
    ASSERT_TRUE(other.ok()) << other.status();
    const absl::Status status = optimizer->LoadState((*other)->State());
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << info.name << ": " << status;
  }
}

TEST_P(OptimizerConformance, BadConfigsAreErrorsNotCrashes) {
  Problem problem;
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto optimizer = Registry<Optimizer>::Create(config, problem.Context());
    EXPECT_TRUE(optimizer.ok() || IsUserError(optimizer.status())) << optimizer.status();
  }
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerConformance, testing::ValuesIn(RegisteredPlugins("optimizer")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OptimizerConformance);

class ScheduleConformance : public testing::TestWithParam<PluginInfo> {};

TEST_P(ScheduleConformance, IsAFunctionOfTheStepBetweenZeroAndThePeak) {
  for (const int64_t epochs : {1, 2, 10}) {
    // The whole training, and one that trainer.max_steps ends early.
    for (const int64_t steps : {7 * epochs, int64_t{3}}) {
      const ScheduleContext context{.learning_rate = 0.1, .total_steps = steps, .steps_per_epoch = 7, .epochs = epochs};
      const auto a = Registry<Schedule>::Create(Example(GetParam()), context);
      const auto b = Registry<Schedule>::Create(Example(GetParam()), context);
      ASSERT_TRUE(a.ok()) << a.status();
      for (int64_t step = steps - 1; step >= 0; --step) {
        const double rate = (*a)->LearningRate(step);
        EXPECT_GE(rate, 0);
        EXPECT_LE(rate, 0.1 * (1 + 1e-9));
        EXPECT_EQ(rate, (*b)->LearningRate(step));
      }
    }
  }
}

TEST_P(ScheduleConformance, BadConfigsAreErrorsNotCrashes) {
  const ScheduleContext context{.learning_rate = 0.1, .total_steps = 10, .steps_per_epoch = 5, .epochs = 2};
  for (const google::protobuf::Any& config : SpoiltExamples(GetParam())) {
    const auto schedule = Registry<Schedule>::Create(config, context);
    EXPECT_TRUE(schedule.ok() || IsUserError(schedule.status())) << schedule.status();
    if (schedule.ok()) EXPECT_TRUE(std::isfinite((*schedule)->LearningRate(3)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ScheduleConformance, testing::ValuesIn(RegisteredPlugins("schedule")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ScheduleConformance);

class SinkConformance : public testing::TestWithParam<PluginInfo> {
 protected:
  std::string MakeFolder(const std::string& name) {
    const std::string folder = testing::TempDir() + "/" + TestName({GetParam(), 0}) + name;
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    return folder;
  }
};

TEST_P(SinkConformance, TakesRecordsBeforeAndAfterAResume) {
  const std::string folder = MakeFolder("records");
  for (const int64_t resumed : {0, 2}) {
    auto sink = Registry<Sink>::Create(Example(GetParam()), {.run_directory = folder, .resume_step = resumed});
    ASSERT_TRUE(sink.ok()) << sink.status();
    for (int64_t step = resumed + 1; step <= resumed + 3; ++step) {
      EXPECT_TRUE((*sink)->Write({.step = step, .epoch = 0.1, .wall_time = 1e9, .values = {{"train/loss", 0.5}}}).ok());
    }
    EXPECT_TRUE((*sink)->Flush().ok());
  }
  EXPECT_FALSE(std::filesystem::is_empty(folder));
}

TEST_P(SinkConformance, AFolderThatIsGoneIsAnError) {
  const auto sink = Registry<Sink>::Create(Example(GetParam()), {.run_directory = MakeFolder("gone") + "/not/there"});
  EXPECT_TRUE(IsUserError(sink.status())) << sink.status();
}

INSTANTIATE_TEST_SUITE_P(All, SinkConformance, testing::ValuesIn(RegisteredPlugins("sink")), TestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SinkConformance);

}  // namespace
}  // namespace graticule
