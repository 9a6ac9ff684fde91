#include "trainer/distributed/ranks.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/full.h"
#include "ATen/ops/scalar_tensor.h"
#include "ATen/ops/zeros.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/metrics.h"
#include "plugin/logging.h"
#include "trainer/distributed/environment.h"
#include "trainer/distributed/launcher.h"
#include "trainer/distributed/sum_metrics.h"
#include "trainer/distributed/testing.h"

namespace graticule {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// Ends with 1 and the status where `status` is not OK, in which case it also leaves its words.
#define EXIT_IF_ERROR(expression)                                           \
  do {                                                                      \
    if (const absl::Status exit_status = (expression); !exit_status.ok()) { \
      std::cerr << exit_status << std::endl;                                \
      return 1;                                                             \
    }                                                                       \
  } while (false)

// ---- What ranks do ------------------------------------------------------------------------------

int Calls() {
  const auto ranks = JoinOrDie();
  const int rank = ranks->rank();
  const int size = ranks->size();

  at::Tensor doubles = at::full({3}, 0.1 * (rank + 1), at::kDouble);
  EXIT_IF_ERROR(ranks->Sum(doubles));
  double sum = 0;
  for (int i = 1; i <= size; ++i) sum += 0.1 * i;
  CHECK_LT(std::abs(doubles[2].item<double>() - sum), 1e-15);
  at::Tensor integers = at::full({2}, (int64_t{1} << 60) + rank, at::kLong);
  EXIT_IF_ERROR(ranks->Sum(integers));
  CHECK_EQ(integers[1].item<int64_t>(), size * (int64_t{1} << 60) + size * (size - 1) / 2);

  const auto rows = ranks->AllGather({-0.0, 1.0 / (rank + 3), std::numeric_limits<double>::denorm_min() * rank});
  EXIT_IF_ERROR(rows.status());
  for (int i = 0; i < size; ++i) {
    CHECK(std::signbit((*rows)[i][0]));
    CHECK_EQ((*rows)[i][1], 1.0 / (i + 3));
    CHECK_EQ((*rows)[i][2], std::numeric_limits<double>::denorm_min() * i);
  }

  std::vector<at::Tensor> tensors = {at::arange(6, at::kFloat).view({2, 3}).add(rank),
                                     at::full({}, rank + 7, at::kLong), at::full({4}, rank == 0, at::kBool),
                                     at::zeros({0})};
  EXIT_IF_ERROR(ranks->Broadcast(tensors));
  CHECK(tensors[0].equal(at::arange(6, at::kFloat).view({2, 3})));
  CHECK_EQ(tensors[1].item<int64_t>(), 7);
  CHECK(tensors[2].all().item<bool>());

  EXIT_IF_ERROR(ranks->Barrier());
  const auto text = ranks->BroadcastText(rank == 0 ? std::string("a\0b\n", 4) : "of no meaning");
  EXIT_IF_ERROR(text.status());
  CHECK(*text == std::string("a\0b\n", 4));
  const auto empty = ranks->BroadcastText(rank == 0 ? "" : "of no meaning");
  EXIT_IF_ERROR(empty.status());
  CHECK(empty->empty());
  const auto texts = ranks->GatherTexts(std::string(rank, 'x'));
  EXIT_IF_ERROR(texts.status());
  for (int i = 0; i < size; ++i) CHECK((*texts)[i] == std::string(i, 'x'));
  const auto none = ranks->GatherTexts("");
  EXIT_IF_ERROR(none.status());
  CHECK_EQ(none->size(), size);

  // Exchanges under way mix with other calls.
  std::unique_ptr<Ranks::Maxima> before;
  for (int64_t step = 0; step < 20; ++step) {
    auto exchange = ranks->StartMax({rank == 1 ? step : 0, -rank, rank});
    EXIT_IF_ERROR(exchange.status());
    EXIT_IF_ERROR(ranks->Barrier());
    if (before != nullptr) {
      const auto maxima = before->Wait();
      EXIT_IF_ERROR(maxima.status());
      CHECK((*maxima == std::vector<int64_t>{step - 1, 0, size - 1}));
    }
    before = std::move(exchange).value();
  }
  EXIT_IF_ERROR(before->Wait().status());
  std::cout << "rank " << rank << " of " << size << " is through" << std::endl;
  return 0;
}

// Sums whose order matters, names that not all have, a rank without a batch.
int SumsOfMetrics() {
  const auto ranks = JoinOrDie();
  const int rank = ranks->rank();
  Metrics metrics;
  const double losses[] = {1e16, 1, -1e16};
  metrics.Add("loss", at::scalar_tensor(losses[rank], at::kDouble), rank + 1);
  if (rank != 1) metrics.Add("apl/loss", at::scalar_tensor(rank + 0.1f), 4);
  auto sums = SumMetrics(metrics, *ranks);
  EXIT_IF_ERROR(sums.status());
  const auto values = sums->Sums();
  CHECK_EQ(values.size(), 2);
  CHECK_EQ(values.at("loss").first, 1e16 + 1 + -1e16);
  CHECK_EQ(values.at("loss").second, 6);
  CHECK_EQ(values.at("apl/loss").first, double{0.1f} + double{2.1f});
  CHECK_EQ(values.at("apl/loss").second, 8);
  sums = SumMetrics(rank == 2 ? *sums : Metrics(), *ranks);
  EXIT_IF_ERROR(sums.status());
  CHECK(sums->Sums() == values);
  EXIT_IF_ERROR(SumMetrics(Metrics(), *ranks).status());
  return 0;
}

// Steps until something happens to a rank.
int Steps(const std::function<int(Ranks&, int64_t step)>& at_step, double timeout_seconds) {
  const auto ranks = JoinOrDie(timeout_seconds);
  for (int64_t step = 0; step < 1000; ++step) {
    ranks->SetProgress(step, "data");
    if (const int code = at_step(*ranks, step); code != 0) return code;
    ranks->SetProgress(step, "backward");
    at::Tensor ones = at::full({1}, int64_t{1}, at::kLong);
    const auto begin = std::chrono::steady_clock::now();
    if (const absl::Status status = ranks->Sum(ones); !status.ok()) {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      std::cerr << status << "\n" << (waited.count() < timeout_seconds + 6 ? "in time" : "too late") << std::endl;
      ranks->ReportFailure(std::string(status.message()));
      return 1;
    }
    Sleep(0.05);
  }
  return 0;
}

int EndsWithWords(Ranks& ranks, int which, int64_t step) {
  if (ranks.rank() != which || step != 11) return 0;
  ranks.ReportFailure("loss is not finite in step 11");
  return 5;
}

int Rank1IsKilled() {
  return Steps(
      [](Ranks& ranks, int64_t step) {
        if (ranks.rank() == 1 && step == 11) kill(getpid(), SIGKILL);
        return 0;
      },
      5);
}
int Rank0IsKilled() {
  return Steps(
      [](Ranks& ranks, int64_t step) {
        if (ranks.rank() == 0 && step == 11) kill(getpid(), SIGKILL);
        return 0;
      },
      5);
}
int Rank1Fails() {
  return Steps([](Ranks& ranks, int64_t step) { return EndsWithWords(ranks, 1, step); }, 5);
}
int Rank0Fails() {
  return Steps([](Ranks& ranks, int64_t step) { return EndsWithWords(ranks, 0, step); }, 5);
}
int Rank1Leaves() {
  return Steps([](Ranks& ranks, int64_t step) { return ranks.rank() == 1 && step == 3 ? 6 : 0; }, 5);
}
int Rank1IsSlow() {
  return Steps(
      [](Ranks& ranks, int64_t step) {
        if (ranks.rank() == 1 && step == 11) Sleep(7);
        return 0;
      },
      2);
}
int Rank0IsSlow() {
  return Steps(
      [](Ranks& ranks, int64_t step) {
        if (ranks.rank() == 0 && step == 11) Sleep(7);
        return 0;
      },
      2);
}
int Rank1IsStopped() {
  return Steps(
      [](Ranks& ranks, int64_t step) {
        if (ranks.rank() == 1 && step == 11) kill(getpid(), SIGSTOP);
        return 0;
      },
      2);
}
int Rank0IsStopped() {
  return Steps(
      [](Ranks& ranks, int64_t step) {
        if (ranks.rank() == 0 && step == 11) kill(getpid(), SIGSTOP);
        return 0;
      },
      2);
}

int Rank1NeverComes() {
  if (ReadLaunchEnvironment()->rank == 1) return 0;
  JoinOrDie(1);
  return 0;
}
int Rank0NeverComes() {
  if (ReadLaunchEnvironment()->rank == 0) return 0;
  JoinOrDie(1);
  return 0;
}

// ---- What comes of it ---------------------------------------------------------------------------

TEST(RanksTest, AloneEveryCallIsRight) {
  const auto ranks = Ranks::Alone();
  EXPECT_EQ(ranks->rank(), 0);
  EXPECT_EQ(ranks->size(), 1);
  at::Tensor values = at::full({2}, 0.5, at::kDouble);
  EXPECT_TRUE(ranks->Sum(values).ok());
  EXPECT_EQ(values[1].item<double>(), 0.5);
  EXPECT_EQ(*ranks->AllGather({1, 2}), (std::vector<std::vector<double>>{{1, 2}}));
  EXPECT_TRUE(ranks->Broadcast({values}).ok());
  EXPECT_TRUE(ranks->Barrier().ok());
  EXPECT_EQ(*ranks->BroadcastText("x"), "x");
  EXPECT_EQ(*ranks->GatherTexts("x"), std::vector<std::string>{"x"});
  EXPECT_EQ(*(*ranks->StartMax({3, 4}))->Wait(), (std::vector<int64_t>{3, 4}));
  ranks->SetProgress(1, "data");
  ranks->ReportFailure("words");
  Metrics metrics;
  metrics.Add("loss", at::scalar_tensor(3.0), 2);
  EXPECT_EQ(SumMetrics(metrics, *ranks)->Means().at("loss"), 1.5);
  const auto joined = Ranks::Join(LaunchEnvironment(), at::kCPU, 1);
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ((*joined)->size(), 1);
}

TEST(RanksTest, CallsOverTwoAndThreeRanks) {
  for (const int size : {2, 3}) {
    for (const RankResult& result : RunRanks(size, "Calls")) {
      EXPECT_EQ(result.exit_code, 0) << result.output;
      EXPECT_THAT(result.output, HasSubstr(absl::StrCat(" of ", size, " is through")));
    }
  }
}

TEST(RanksTest, MetricsAddUpInTheOrderOfTheRanks) {
  for (const RankResult& result : RunRanks(3, "SumsOfMetrics")) EXPECT_EQ(result.exit_code, 0) << result.output;
}

// What the ranks besides `lost` say, within the timeout and a few seconds.
void ExpectNamed(const std::vector<RankResult>& results, int lost, const std::string& message) {
  for (int rank = 0; rank < static_cast<int>(results.size()); ++rank) {
    if (rank == lost) continue;
    EXPECT_EQ(results[rank].exit_code, 1);
    EXPECT_THAT(results[rank].output, AllOf(HasSubstr(message), HasSubstr("\nin time\n")));
  }
}

TEST(RanksTest, AKilledRankIsNamed) {
  for (const int size : {2, 3}) {
    const auto results = RunRanks(size, "Rank1IsKilled");
    EXPECT_EQ(results[1].exit_code, 128 + SIGKILL);
    ExpectNamed(results, 1, "UNAVAILABLE: rank 1 was lost without a word, last seen at step ");
  }
}

TEST(RanksTest, TheStoresHostIsNamedWhenItIsKilled) {
  const auto results = RunRanks(3, "Rank0IsKilled");
  ExpectNamed(results, 0, "UNAVAILABLE: rank 0 was lost: it no longer answers");
}

TEST(RanksTest, ARanksLastWordsAreRepeated) {
  auto results = RunRanks(3, "Rank1Fails");
  EXPECT_EQ(results[1].exit_code, 5);
  ExpectNamed(results, 1, "UNAVAILABLE: rank 1 was lost: loss is not finite in step 11");
  results = RunRanks(3, "Rank0Fails");
  EXPECT_EQ(results[0].exit_code, 5);
  ExpectNamed(results, 0, "UNAVAILABLE: rank 0 was lost: loss is not finite in step 11");
}

TEST(RanksTest, ARankThatLeavesEarlyIsNamed) {
  const auto results = RunRanks(2, "Rank1Leaves");
  EXPECT_EQ(results[1].exit_code, 6);
  ExpectNamed(results, 1, "UNAVAILABLE: rank 1 was lost: it has ended after step 3");
}

TEST(RanksTest, ASlowRankIsNamed) {
  auto results = RunRanks(3, "Rank1IsSlow");
  ExpectNamed(results, 1,
              "DEADLINE_EXCEEDED: rank 1 has not come to step 11 (backward) within 2 s; it is at step 11 since ");
  EXPECT_THAT(results[0].output, HasSubstr(" s (data)"));
  // When it comes at last it learns what the others said.
  EXPECT_THAT(results[1].output, AnyOf(HasSubstr("DEADLINE_EXCEEDED: rank 1 has not come to step 11"),
                                       HasSubstr("rank 0 was lost: it no longer answers")));
  results = RunRanks(2, "Rank0IsSlow");
  ExpectNamed(results, 0,
              "DEADLINE_EXCEEDED: rank 0 has not come to step 11 (backward) within 2 s; it is at step 11 since ");
}

TEST(RanksTest, AStoppedRankIsNamed) {
  const auto stop = [](const char* name, int rank, const char* message) {
    const auto results = RunRanks(3, name, [&](const std::vector<pid_t>& pids) {
      std::thread([pid = pids[rank]] {
        Sleep(12);
        kill(pid, SIGKILL);
      }).detach();
    });
    EXPECT_EQ(results[rank].exit_code, 128 + SIGKILL);
    ExpectNamed(results, rank, message);
  };
  stop("Rank1IsStopped", 1, "UNAVAILABLE: rank 1 was lost without a word, last seen at step ");
  stop("Rank0IsStopped", 0, "UNAVAILABLE: rank 0 was lost: it no longer answers");
}

TEST(RanksTest, RanksThatNeverComeAreNamed) {
  auto results = RunRanks(3, "Rank1NeverComes");
  EXPECT_EQ(results[0].exit_code, 3);
  EXPECT_THAT(results[0].output, HasSubstr("DEADLINE_EXCEEDED: torchrun's rank 0 waits at 127.0.0.1:"));
  EXPECT_THAT(results[0].output, HasSubstr(": rank 1 of 3 has not come within 1 s"));
  results = RunRanks(2, "Rank0NeverComes");
  EXPECT_EQ(results[1].exit_code, 3);
  EXPECT_THAT(results[1].output, HasSubstr("UNAVAILABLE: rank 1 can't reach the others' meeting point at 127.0.0.1:"));
}

TEST(RanksTest, MeetWhereTheLauncherSaysAndTheOneThatFailedIsTheFirstToEnd) {
  int code = 9;
  const auto launch = [&](const char* name) {
    return Launch({.processes = 2, .command = {"/proc/self/exe"}, .environment = {RankMainVariable(name)}}, &code);
  };
  EXPECT_TRUE(launch("Calls").ok());
  EXPECT_EQ(code, 0);
  EXPECT_EQ(launch("Rank0Fails").message(), "rank 0 ended with exit code 5");
  EXPECT_EQ(launch("Rank1Fails").message(), "rank 1 ended with exit code 5");
  EXPECT_EQ(code, 5);
}

}  // namespace
}  // namespace graticule

int main(int argc, char** argv) {
  using namespace graticule;
  return RunTestsOrRank(argc, argv,
                        {{"Calls", Calls},
                         {"SumsOfMetrics", SumsOfMetrics},
                         {"Rank1IsKilled", Rank1IsKilled},
                         {"Rank0IsKilled", Rank0IsKilled},
                         {"Rank1Fails", Rank1Fails},
                         {"Rank0Fails", Rank0Fails},
                         {"Rank1Leaves", Rank1Leaves},
                         {"Rank1IsSlow", Rank1IsSlow},
                         {"Rank0IsSlow", Rank0IsSlow},
                         {"Rank1IsStopped", Rank1IsStopped},
                         {"Rank0IsStopped", Rank0IsStopped},
                         {"Rank1NeverComes", Rank1NeverComes},
                         {"Rank0NeverComes", Rank0NeverComes}});
}
