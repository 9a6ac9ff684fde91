#include "trainer/distributed/heartbeat.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "torch/csrc/distributed/c10d/HashStore.hpp"

namespace graticule {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

constexpr double kInterval = 0.1;

// Ranks as threads of one process, with a store that never goes.
class HeartbeatTest : public testing::Test {
 protected:
  std::unique_ptr<Heartbeat> Start(int rank, int size, double timeout_seconds = 100,
                                   std::function<void()> abort = nullptr) {
    HeartbeatOptions options;
    options.store = store_;
    options.rank = rank;
    options.size = size;
    options.store_host = "rank 0";
    options.timeout_seconds = timeout_seconds;
    options.interval_seconds = kInterval;
    options.abort = std::move(abort);
    return std::make_unique<Heartbeat>(std::move(options));
  }

  c10::intrusive_ptr<c10d::Store> store_ = c10::make_intrusive<c10d::HashStore>();
};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

void WaitFor(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_TRUE(condition());
}

const absl::Status kError = absl::UnavailableError("connection closed by peer");

TEST_F(HeartbeatTest, WhatNobodyKnowsStaysAsItIs) {
  const auto first = Start(0, 2);
  const auto second = Start(1, 2);
  EXPECT_EQ(first->Explain(kError, /*timed_out=*/false), kError);
  // All say the same from now on.
  EXPECT_EQ(second->Explain(absl::InternalError("other"), /*timed_out=*/true), kError);
  EXPECT_TRUE(first->Aborted().ok());
}

TEST_F(HeartbeatTest, LastWordsAreRepeatedAndTheFirstCount) {
  const auto first = Start(0, 3);
  const auto second = Start(1, 3);
  const auto third = Start(2, 3);
  second->ReportFailure("a disk is full");
  third->ReportFailure("too late");
  for (const auto* rank : {&first, &second, &third}) {
    const absl::Status status = (*rank)->Explain(kError, false);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(Message(status), "rank 1 was lost: a disk is full");
  }
}

TEST_F(HeartbeatTest, LateRanksAreNamedWithTheirPlace) {
  const auto first = Start(0, 3);
  const auto second = Start(1, 3);
  const auto third = Start(2, 3);
  for (const auto* rank : {&first, &second, &third}) (*rank)->CountCall();
  first->CountCall();
  first->SetProgress(12, "backward");
  second->SetProgress(11, "data");
  WaitFor([&] { return store_->check({"beat/2"}) && absl::StrContains(store_->get_to_str("beat/1"), "data"); });
  absl::Status status = first->Explain(kError, /*timed_out=*/true);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status), MatchesRegex("ranks 1 and 2 have not come to step 12 \\(backward\\) within 100 s; it is "
                                            "at step 11 since [01] s \\(data\\)"));
}

TEST_F(HeartbeatTest, RanksThatLeftAndThoseWithoutASignOfLifeAreNamed) {
  const auto first = Start(0, 2);
  auto second = Start(1, 2);
  second->SetProgress(3, "data");
  second.reset();
  EXPECT_EQ(Message(first->Explain(kError, false)), "rank 1 was lost: it has ended after step 3");

  store_ = c10::make_intrusive<c10d::HashStore>();
  const auto alone = Start(0, 3);
  EXPECT_EQ(Message(alone->Explain(kError, true)), "ranks 1 and 2 were lost without a word");
}

TEST_F(HeartbeatTest, CollectivesThatDoNotNoticeAreAborted) {
  std::atomic<int> aborted = 0;
  const auto abort = [&] { ++aborted; };
  // Rank 1 never comes.
  auto first = Start(0, 2, 0.5, abort);
  WaitFor([&] { return aborted == 1; });
  EXPECT_EQ(Message(first->Aborted()), "rank 1 was lost without a word");
  first.reset();

  // Rank 1 lives, but stays behind.
  store_ = c10::make_intrusive<c10d::HashStore>();
  const auto second = Start(1, 2);
  first = Start(0, 2, 0.5, abort);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  EXPECT_EQ(aborted, 1);
  EXPECT_TRUE(first->Aborted().ok());
  first->SetProgress(4, "backward");
  first->CountCall();
  WaitFor([&] { return aborted == 2; });
  EXPECT_THAT(Message(first->Aborted()), HasSubstr("rank 1 has not come to step 4 (backward) within 0.5 s; "));
  EXPECT_EQ(second->Explain(kError, false), first->Aborted());

  // Another one's words.
  store_ = c10::make_intrusive<c10d::HashStore>();
  first = Start(0, 2, 100, abort);
  Start(1, 2)->ReportFailure("no memory");
  WaitFor([&] { return aborted == 3; });
  EXPECT_EQ(Message(first->Aborted()), "rank 1 was lost: no memory");
}

}  // namespace
}  // namespace graticule
