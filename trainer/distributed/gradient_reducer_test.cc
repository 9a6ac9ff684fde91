#include "trainer/distributed/gradient_reducer.h"

#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/addmm.h"
#include "ATen/ops/allclose.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/full.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/zeros.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/logging.h"
#include "torch/csrc/autograd/custom_function.h"
#include "trainer/distributed/ranks.h"
#include "trainer/distributed/ranks_state.h"
#include "trainer/distributed/testing.h"

namespace graticule {
namespace {

using testing::AllOf;
using testing::HasSubstr;

#define EXIT_IF_ERROR(expression)                                           \
  do {                                                                      \
    if (const absl::Status exit_status = (expression); !exit_status.ok()) { \
      std::cerr << exit_status << std::endl;                                \
      return 1;                                                             \
    }                                                                       \
  } while (false)

// Numbers that look arbitrary and are the same in every process.
at::Tensor Numbers(at::IntArrayRef shape, double phase) {
  int64_t count = 1;
  for (const int64_t length : shape) count *= length;
  return at::arange(count, at::kFloat).mul(1.7).add(phase).sin().view(shape);
}

constexpr int64_t kBatch = 12;
constexpr int64_t kIn = 40;
constexpr int64_t kHidden = 50;

// Two layers, and a gain that can be left out.
struct Model {
  Model()
      : first(Numbers({kIn, kHidden}, 1).mul(0.3)),
        first_bias(Numbers({kHidden}, 2)),
        second(Numbers({kHidden, 3}, 3).mul(0.3)),
        gain(at::ones({3})) {
    for (at::Tensor* tensor : {&first, &first_bias, &second, &gain}) tensor->requires_grad_();
  }

  at::Tensor Loss(const at::Tensor& x, const at::Tensor& target, bool with_gain) const {
    at::Tensor y = at::addmm(first_bias, x, first).tanh().matmul(second);
    if (with_gain) y = y.mul(gain);
    return y.sub(target).square().mean();
  }

  std::vector<RankTensor> Parameters() const {
    return {{"first.weight", first}, {"first.bias", first_bias}, {"second.weight", second}, {"gain", gain}};
  }

  at::Tensor first, first_bias, second, gain;
};

std::pair<at::Tensor, at::Tensor> Batch(int64_t step) {
  return {Numbers({kBatch, kIn}, 0.1 + step), Numbers({kBatch, 3}, 5 + step)};
}

// The part of a batch that a rank has.
at::Tensor Share(const at::Tensor& all, const Ranks& ranks) {
  const int64_t count = kBatch / ranks.size();
  return all.slice(0, ranks.rank() * count, (ranks.rank() + 1) * count);
}

void Forget(const std::vector<RankTensor>& parameters) {
  for (const RankTensor& parameter : parameters) parameter.tensor.mutable_grad() = at::Tensor();
}

// CHECKs that the gradients are those of `reference`, to the order of sums.
void CheckGradients(const Model& model, const Model& reference, const std::string& when) {
  const auto parameters = model.Parameters();
  const auto expected = reference.Parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor gradient = parameters[i].tensor.grad();
    const at::Tensor wanted = expected[i].tensor.grad();
    CHECK_EQ(gradient.defined(), wanted.defined()) << parameters[i].name << " " << when;
    if (!wanted.defined()) continue;
    CHECK(at::allclose(gradient, wanted, 1e-5, 1e-7))
        << parameters[i].name << " " << when << ": " << gradient.sub(wanted).abs().max().item<double>();
  }
}

// CHECKs that all ranks have the same bits.
absl::Status CheckSame(const Model& model, Ranks& ranks) {
  std::string bits;
  for (const RankTensor& parameter : model.Parameters()) {
    const at::Tensor gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    const at::Tensor bytes = gradient.contiguous();
    bits.append(static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes());
  }
  const auto all = ranks.GatherTexts(bits);
  if (!all.ok()) return all.status();
  for (const std::string& other : *all) CHECK(other == bits);
  return absl::OkStatus();
}

std::unique_ptr<GradientReducer> MakeReducer(const Model& model, Ranks& ranks) {
  // 512 bytes, so that there is more than one bucket.
  auto reducer = GradientReducer::Create(model.Parameters(), 0.5 / 1024, &ranks);
  CHECK(reducer.ok()) << reducer.status();
  return std::move(reducer).value();
}

uint64_t Collectives(Ranks& ranks) {
  return ranks.state()->gradients->getDefaultBackend()->getSequenceNumberForGroup();
}

// ---- What ranks do ------------------------------------------------------------------------------

int MeansAreThoseOfTheWholeBatch() {
  const auto ranks = JoinOrDie();
  Model model, reference;
  const auto reducer = MakeReducer(model, *ranks);
  for (int64_t step = 0; step < 6; ++step) {
    const auto [x, target] = Batch(step);
    const uint64_t before = Collectives(*ranks);
    uint64_t at_first_layer = 0;
    const auto hook = model.first.register_hook([&](const at::Tensor&) { at_first_layer = Collectives(*ranks); });
    EXIT_IF_ERROR(reducer->Backward(model.Loss(Share(x, *ranks), Share(target, *ranks), true), true));
    model.first.remove_hook(hook);
    reference.Loss(x, target, true).backward();
    CheckGradients(model, reference, absl::StrCat("step ", step));
    EXIT_IF_ERROR(CheckSame(model, *ranks));
    // The second layer's gradients are on their way before the first's are there.
    if (step > 1) CHECK_EQ(at_first_layer, before + 1);
    if (step > 1) CHECK_GT(Collectives(*ranks), at_first_layer + 1);
    // Views of buckets: fewer storages than gradients.
    std::set<const void*> storages;
    for (const RankTensor& parameter : model.Parameters()) {
      storages.insert(parameter.tensor.grad().storage().data());
    }
    CHECK_LT(storages.size(), 4);
    CHECK_GT(storages.size(), 1);
    c10::NoGradGuard no_grad;
    for (const Model* each : {&model, &reference}) {
      for (const RankTensor& parameter : each->Parameters()) {
        at::Tensor weights = parameter.tensor;
        weights.sub_(parameter.tensor.grad(), 0.05);
        // Both ways to forget gradients.
        if (step % 2 == 0) {
          parameter.tensor.mutable_grad() = at::Tensor();
        } else {
          parameter.tensor.mutable_grad().zero_();
        }
      }
    }
  }
  return 0;
}

// A process that has just been started and one that is at its tenth step sum up in the same order.
int EqualStepsGiveTheSameBits() {
  const auto ranks = JoinOrDie();
  Model model;
  const auto reducer = MakeReducer(model, *ranks);
  const auto [x, target] = Batch(0);
  std::vector<std::vector<at::Tensor>> gradients;
  for (int step = 0; step < 4; ++step) {
    EXIT_IF_ERROR(reducer->Backward(model.Loss(Share(x, *ranks), Share(target, *ranks), true), true));
    gradients.emplace_back();
    for (const RankTensor& parameter : model.Parameters()) {
      gradients.back().push_back(parameter.tensor.grad().clone());
      CHECK(gradients.back().back().equal(gradients[0][gradients.back().size() - 1]))
          << parameter.name << " at step " << step;
    }
    Forget(model.Parameters());
  }
  return 0;
}

int PartsAreSentOnce() {
  const auto ranks = JoinOrDie();
  Model model, reference;
  const auto reducer = MakeReducer(model, *ranks);
  const uint64_t before = Collectives(*ranks);
  uint64_t of_a_step = 0;
  for (int64_t step = 0; step < 4; ++step) {
    for (int64_t part = 0; part < 3; ++part) {
      const auto [x, target] = Batch(10 * step + part);
      if (part == 2) CHECK_EQ(Collectives(*ranks), before + of_a_step);
      EXIT_IF_ERROR(reducer->Backward(model.Loss(Share(x, *ranks), Share(target, *ranks), true).div(3), part == 2));
      reference.Loss(x, target, true).div(3).backward();
    }
    of_a_step = Collectives(*ranks) - before;
    CHECK_GT(of_a_step, 0);
    CheckGradients(model, reference, absl::StrCat("step ", step));
    Forget(model.Parameters());
    Forget(reference.Parameters());
  }
  return 0;
}

// The gain is used: in no rank, in one, in all, and so on; an unused one keeps no gradient only where nobody uses it.
int UnusedParametersAreNoObstacle() {
  const auto ranks = JoinOrDie();
  Model model, reference;
  const auto reducer = MakeReducer(model, *ranks);
  const auto uses = [](int64_t step, int rank) {
    const bool table[][3] = {{false, false, false}, {false, true, false}, {true, true, true}, {false, false, false},
                             {true, false, false},  {true, true, true},   {false, true, true}};
    return table[step][rank];
  };
  for (int64_t step = 0; step < 7; ++step) {
    const auto [x, target] = Batch(step);
    const bool own = uses(step, ranks->rank());
    EXIT_IF_ERROR(reducer->Backward(model.Loss(Share(x, *ranks), Share(target, *ranks), own), true));
    const int64_t count = kBatch / ranks->size();
    for (int rank = 0; rank < ranks->size(); ++rank) {
      reference
          .Loss(x.slice(0, rank * count, (rank + 1) * count), target.slice(0, rank * count, (rank + 1) * count),
                uses(step, rank))
          .div(ranks->size())
          .backward();
    }
    CheckGradients(model, reference, absl::StrCat("step ", step));
    EXIT_IF_ERROR(CheckSame(model, *ranks));
    Forget(model.Parameters());
    Forget(reference.Parameters());
  }
  return 0;
}

// As PyTorch's reentrant checkpoint: what it computes it computes once more in the backward pass, whose own backward
// pass adds to the parameters' gradients.
struct Reentrant : public torch::autograd::Function<Reentrant> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const Model* model) {
    context->save_for_backward({x});
    context->saved_data["model"] = reinterpret_cast<int64_t>(model);
    return at::addmm(model->first_bias, x, model->first).tanh().matmul(model->second);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto* model = reinterpret_cast<const Model*>(context->saved_data["model"].toInt());
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    c10::AutoGradMode record(true);
    at::addmm(model->first_bias, x, model->first).tanh().matmul(model->second).backward(gradients[0]);
    return {x.grad(), at::Tensor()};
  }
};

// The layers run `runs` times in each step, so that each of their gradients comes in as many parts.
int Checkpointed(const std::vector<int>& runs_of_steps) {
  const auto ranks = JoinOrDie(5);
  Model model, reference;
  const auto reducer = MakeReducer(model, *ranks);
  for (size_t step = 0; step < runs_of_steps.size(); ++step) {
    for (const bool synchronise : {false, true}) {
      const auto [x, target] = Batch(static_cast<int64_t>(2 * step + synchronise));
      at::Tensor loss = at::zeros({});
      at::Tensor wanted = at::zeros({});
      for (int run = 0; run < runs_of_steps[step]; ++run) {
        const at::Tensor own = Share(x, *ranks).add(run).requires_grad_();
        loss = loss.add(Reentrant::apply(own, &model).mul(model.gain).sub(Share(target, *ranks)).square().mean());
        wanted = wanted.add(reference.Loss(x.add(run), target, true));
      }
      if (const absl::Status status = reducer->Backward(loss, synchronise); !status.ok()) {
        std::cerr << status << std::endl;
        ranks->ReportFailure(std::string(status.message()));
        return 1;
      }
      wanted.backward();
    }
    CheckGradients(model, reference, absl::StrCat("step ", step));
    EXIT_IF_ERROR(CheckSame(model, *ranks));
    Forget(model.Parameters());
    Forget(reference.Parameters());
  }
  return 0;
}
int CheckpointedTwice() { return Checkpointed({2, 2, 2, 2}); }
int CheckpointedLess() { return Checkpointed({3, 2, 3, 1}); }
int CheckpointedMore() { return Checkpointed({1, 1, 2}); }

int ModelsAreRank0s() {
  const auto ranks = JoinOrDie();
  Model model;
  const at::Tensor count = at::full({}, ranks->rank() + 5, at::kLong);
  {
    c10::NoGradGuard no_grad;
    for (const RankTensor& parameter : model.Parameters()) at::Tensor(parameter.tensor).add_(ranks->rank());
  }
  std::vector<RankTensor> tensors = model.Parameters();
  tensors.push_back({"count", count});
  EXIT_IF_ERROR(VerifyAndBroadcast(tensors, *ranks));
  const Model fresh;
  CHECK(model.first.equal(fresh.first));
  CHECK(model.gain.equal(fresh.gain));
  CHECK(model.first.requires_grad());
  CHECK_EQ(count.item<int64_t>(), 5);

  const auto differs = [&](std::vector<RankTensor> own) {
    const absl::Status status = VerifyAndBroadcast(own, *ranks);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument) << status;
    std::cout << status.message() << std::endl;
  };
  const bool other = ranks->rank() == 1;
  differs({{"a", at::zeros({2})}, {"b", at::zeros({3, other ? 5 : 4})}});
  differs({{"a", at::zeros({2}, other ? at::kDouble : at::kFloat)}});
  differs({{"a", at::zeros({2})}, {other ? "c" : "b", at::zeros({3})}});
  if (other) {
    differs({{"a", at::zeros({2})}});
  } else {
    differs({{"a", at::zeros({2})}, {"b", at::zeros({})}});
  }
  return 0;
}

// Something befalls rank 1 in the backward pass of step 3.
int InBackward(const std::function<void()>& befalls) {
  const auto ranks = JoinOrDie(5);
  Model model;
  const auto reducer = MakeReducer(model, *ranks);
  for (int64_t step = 0; step < 100; ++step) {
    ranks->SetProgress(step, "backward");
    const auto [x, target] = Batch(step);
    const at::Tensor loss = model.Loss(Share(x, *ranks), Share(target, *ranks), true);
    const at::Tensor hidden = loss.mul(1);
    if (ranks->rank() == 1 && step == 3) hidden.register_hook([&](const at::Tensor&) { befalls(); });
    if (const absl::Status status = reducer->Backward(hidden.add(0), true); !status.ok()) {
      std::cerr << status << std::endl;
      ranks->ReportFailure(std::string(status.message()));
      return 1;
    }
    Forget(model.Parameters());
  }
  return 0;
}
int ThrowsInBackward() {
  return InBackward([] { throw std::runtime_error("no memory left"); });
}
int IsKilledInBackward() {
  return InBackward([] { kill(getpid(), SIGKILL); });
}
int IsSlowInBackward() {
  return InBackward([] { sleep(10); });
}

// ---- What comes of it ---------------------------------------------------------------------------

void ExpectAllWell(const char* name, std::vector<int> sizes = {2, 3}) {
  for (const int size : sizes) {
    for (const RankResult& result : RunRanks(size, name)) EXPECT_EQ(result.exit_code, 0) << result.output;
  }
}

TEST(GradientReducerTest, AloneItIsAPlainBackwardPass) {
  const auto ranks = Ranks::Alone();
  Model model, reference;
  const auto reducer = MakeReducer(model, *ranks);
  const auto [x, target] = Batch(0);
  EXPECT_TRUE(reducer->Backward(model.Loss(x, target, false), true).ok());
  reference.Loss(x, target, false).backward();
  CheckGradients(model, reference, "alone");
  EXPECT_TRUE(VerifyAndBroadcast(model.Parameters(), *ranks).ok());
  const absl::Status status = reducer->Backward(at::zeros({}), true);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("backward pass: "));
}

TEST(GradientReducerTest, MeansAreThoseOfTheWholeBatch) { ExpectAllWell("MeansAreThoseOfTheWholeBatch"); }
TEST(GradientReducerTest, EqualStepsGiveTheSameBits) { ExpectAllWell("EqualStepsGiveTheSameBits", {3, 4}); }
TEST(GradientReducerTest, PartsAreSentOnce) { ExpectAllWell("PartsAreSentOnce", {2}); }
TEST(GradientReducerTest, UnusedParametersAreNoObstacle) { ExpectAllWell("UnusedParametersAreNoObstacle"); }
TEST(GradientReducerTest, GradientsInPartsAreSentWhole) {
  ExpectAllWell("CheckpointedTwice", {2});
  ExpectAllWell("CheckpointedLess", {2});
}

TEST(GradientReducerTest, MorePartsThanBeforeAreAnErrorThatNamesTheParameter) {
  for (const RankResult& result : RunRanks(2, "CheckpointedMore")) {
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.output, AllOf(HasSubstr("the gradient of "), HasSubstr(" came in more than the 1 parts")));
  }
}

TEST(GradientReducerTest, ModelsAreRank0sAndDifferencesAreNamed) {
  for (const RankResult& result : RunRanks(3, "ModelsAreRank0s")) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output,
              "the ranks have different models: ranks 0, 2 has b Float [3,4] where rank 1 has b Float [3,5]\n"
              "the ranks have different models: ranks 0, 2 has a Float [2] where rank 1 has a Double [2]\n"
              "the ranks have different models: ranks 0, 2 has b Float [3] where rank 1 has c Float [3]\n"
              "the ranks have different models: ranks 0, 2 has b Float [] where rank 1 has nothing\n");
  }
}

TEST(GradientReducerTest, WhatARankThrowsIsSaidByAll) {
  const auto results = RunRanks(3, "ThrowsInBackward");
  EXPECT_THAT(results[1].output, HasSubstr("INTERNAL: backward pass: no memory left"));
  for (const int rank : {0, 2}) {
    EXPECT_EQ(results[rank].exit_code, 1);
    EXPECT_THAT(results[rank].output, HasSubstr("UNAVAILABLE: rank 1 was lost: backward pass: no memory left"));
    EXPECT_GE(results[rank].seconds, results[1].seconds);
  }
}

TEST(GradientReducerTest, ALostOrLateRankIsNamed) {
  const auto expect = [](const char* name, const char* message) {
    const auto results = RunRanks(3, name);
    for (const int rank : {0, 2}) {
      EXPECT_EQ(results[rank].exit_code, 1);
      EXPECT_THAT(results[rank].output, HasSubstr(message));
    }
  };
  expect("IsKilledInBackward", "UNAVAILABLE: rank 1 was lost without a word");
  expect("IsSlowInBackward", "DEADLINE_EXCEEDED: rank 1 has not");
}

}  // namespace
}  // namespace graticule

int main(int argc, char** argv) {
  using namespace graticule;
  return RunTestsOrRank(argc, argv,
                        {{"MeansAreThoseOfTheWholeBatch", MeansAreThoseOfTheWholeBatch},
                         {"EqualStepsGiveTheSameBits", EqualStepsGiveTheSameBits},
                         {"PartsAreSentOnce", PartsAreSentOnce},
                         {"UnusedParametersAreNoObstacle", UnusedParametersAreNoObstacle},
                         {"CheckpointedTwice", CheckpointedTwice},
                         {"CheckpointedLess", CheckpointedLess},
                         {"CheckpointedMore", CheckpointedMore},
                         {"ModelsAreRank0s", ModelsAreRank0s},
                         {"ThrowsInBackward", ThrowsInBackward},
                         {"IsKilledInBackward", IsKilledInBackward},
                         {"IsSlowInBackward", IsSlowInBackward}});
}
