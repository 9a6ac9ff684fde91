#include "trainer/distributed/heartbeat.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

using Clock = std::chrono::steady_clock;

// After so many intervals without one a sign of life is missing.
constexpr double kSilentIntervals = 3;
// How long a call on the store may take before its host counts as lost.
constexpr double kStoreSeconds = 5;
// A rank that ends because of another one ends this much later: torchrun and others name the first that does.
constexpr double kVictimSeconds = 0.5;
constexpr char kVerdict[] = "verdict";
constexpr char kHeard[] = "heard";

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }
Clock::duration Duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// A sign of life.
struct Beat {
  int64_t count = 0;         // grows with every one
  int64_t calls = 0;         // collectives that it has come to
  int64_t step = -1;         // below 0: none yet
  int64_t milliseconds = 0;  // since it is at this step and phase
  bool left = false;
  std::string phase;
};

std::string Encode(const Beat& beat) {
  return absl::StrJoin(
      std::make_tuple(beat.count, beat.calls, beat.step, beat.milliseconds, int{beat.left}, beat.phase), "\n");
}

std::optional<Beat> DecodeBeat(const std::string& text) {
  const std::vector<std::string> fields = absl::StrSplit(text, absl::MaxSplits('\n', 5));
  Beat beat;
  int left = 0;
  if (fields.size() != 6 || !absl::SimpleAtoi(fields[0], &beat.count) || !absl::SimpleAtoi(fields[1], &beat.calls) ||
      !absl::SimpleAtoi(fields[2], &beat.step) || !absl::SimpleAtoi(fields[3], &beat.milliseconds) ||
      !absl::SimpleAtoi(fields[4], &left)) {
    return std::nullopt;
  }
  beat.left = left != 0;
  beat.phase = fields[5];
  return beat;
}

std::string Encode(const absl::Status& status) {
  return absl::StrCat(static_cast<int>(status.code()), "\n", status.message());
}

absl::Status DecodeStatus(const std::string& text) {
  const std::vector<std::string> fields = absl::StrSplit(text, absl::MaxSplits('\n', 1));
  int code = 0;
  if (fields.size() != 2 || !absl::SimpleAtoi(fields[0], &code) || code == 0) {
    return absl::UnavailableError(absl::StrCat("a rank was lost: ", text));
  }
  return absl::Status(static_cast<absl::StatusCode>(code), fields[1]);
}

std::string RankNames(const std::vector<int>& ranks) {
  if (ranks.size() == 1) return absl::StrCat("rank ", ranks[0]);
  return absl::StrCat("ranks ", absl::StrJoin(ranks.begin(), ranks.end() - 1, ", "), " and ", ranks.back());
}

// "it is at step 11 (data) since 75 s"
std::string Place(const Beat& beat) {
  if (beat.step < 0 && beat.phase.empty()) return "it has not begun";
  return absl::StrCat(beat.step < 0 ? "it is" : absl::StrCat("it is at step ", beat.step),
                      absl::StrFormat(" since %.0f s", beat.milliseconds / 1000.0),
                      beat.phase.empty() ? "" : absl::StrCat(" (", beat.phase, ")"));
}

std::string RanksWere(const std::vector<int>& ranks, const char* one, const char* several) {
  return absl::StrCat(RankNames(ranks), " ", ranks.size() == 1 ? one : several);
}

}  // namespace

struct Heartbeat::Shared {
  // What this rank has seen of another.
  struct Peer {
    std::optional<Beat> beat;
    Clock::time_point changed = Clock::now();
  };

  explicit Shared(HeartbeatOptions options)
      : options(std::move(options)), watching(this->options.abort != nullptr), peers(this->options.size) {}

  const HeartbeatOptions options;

  std::mutex mutex;
  std::condition_variable changed;
  // Of this rank; since when it is where it is, and when it came to its last collective.
  Beat own;
  Clock::time_point since = Clock::now();
  Clock::time_point called = Clock::now();
  // What the thread shall do: say this verdict, look at the others, end.
  std::optional<absl::Status> to_say;
  bool watching;
  bool ending = false;
  // What it has found.
  std::optional<absl::Status> verdict;
  int64_t heard = 0;  // ranks that know the verdict, this one among them
  std::vector<Peer> peers;
  int64_t rounds = 0;
  bool store_lost = false;
  bool in_store = false;  // a call on the store is under way
  Clock::time_point round_began = Clock::now();
  bool aborted = false;

  // The rest with `mutex` held, which is let go of while waiting.
  using Lock = std::unique_lock<std::mutex>;

  std::string Key(int rank) const { return absl::StrCat("beat/", rank); }
  bool StoreAnswers() const {
    return !store_lost && !(in_store && Seconds(Clock::now() - round_began) > kStoreSeconds);
  }
  bool Silent(int rank, double seconds) const {
    return rank != options.rank && Seconds(Clock::now() - peers[rank].changed) > seconds;
  }
  bool Left(int rank) const { return rank != options.rank && peers[rank].beat.has_value() && peers[rank].beat->left; }
  // Ranks that have come to fewer collectives.
  std::vector<int> Behind() const {
    std::vector<int> ranks;
    for (int rank = 0; rank < options.size; ++rank) {
      const std::optional<Beat>& beat = peers[rank].beat;
      if (rank != options.rank && beat.has_value() && beat->calls < own.calls) ranks.push_back(rank);
    }
    return ranks;
  }
  std::vector<int> SilentFor(double seconds) const {
    std::vector<int> ranks;
    for (int rank = 0; rank < options.size; ++rank) {
      if (Silent(rank, seconds)) ranks.push_back(rank);
    }
    return ranks;
  }
  std::optional<int> FindLeft() const {
    for (int rank = 0; rank < options.size; ++rank) {
      if (Left(rank)) return rank;
    }
    return std::nullopt;
  }
  void Watch() {
    if (!watching) {
      for (Peer& peer : peers) peer.changed = Clock::now();
    }
    watching = true;
    changed.notify_all();
  }

  // The store's host is the last to go: the others are to hear what happened, or to be gone already.
  void LetOthersHear(Lock& lock) {
    if (!options.hosts_store) return;
    Watch();
    changed.wait_for(lock, Duration(kStoreSeconds), [&] {
      int64_t gone = 0;
      for (int rank = 0; rank < options.size; ++rank) {
        if (Left(rank) || Silent(rank, kSilentIntervals * options.interval_seconds)) ++gone;
      }
      const int64_t others = verdict.has_value() ? heard - 1 : 0;
      return !StoreAnswers() || gone + others >= options.size - 1;
    });
  }

  absl::Status StoreIsLost() const {
    return absl::UnavailableError(absl::StrCat(options.store_host, " was lost: it no longer answers"));
  }
  absl::Status HasLeft(int rank) const {
    const int64_t step = peers[rank].beat->step;
    return absl::UnavailableError(
        absl::StrCat("rank ", rank, " was lost: it has ended", step < 0 ? "" : absl::StrCat(" after step ", step)));
  }
  absl::Status AreLost(const std::vector<int>& ranks) const {
    const std::optional<Beat>& beat = peers[ranks[0]].beat;
    return absl::UnavailableError(
        absl::StrCat(RanksWere(ranks, "was", "were"), " lost without a word",
                     beat.has_value() && beat->step >= 0 ? absl::StrCat(", last seen at step ", beat->step) : "",
                     beat.has_value() && !beat->phase.empty() ? absl::StrCat(" (", beat->phase, ")") : ""));
  }
  absl::Status AreLate(const std::vector<int>& ranks) const {
    return absl::DeadlineExceededError(absl::StrCat(
        RanksWere(ranks, "has", "have"), " not come", own.step < 0 ? "" : absl::StrCat(" to step ", own.step),
        own.phase.empty() ? "" : absl::StrCat(" (", own.phase, ")"),
        absl::StrFormat(" within %g s; ", options.timeout_seconds), Place(*peers[ranks[0]].beat)));
  }

  // The verdict of all ranks, this one's if it is the first.
  absl::Status Say(Lock& lock, const absl::Status& found) {
    to_say = found;
    changed.notify_all();
    changed.wait_for(lock, Duration(kStoreSeconds), [&] { return verdict.has_value() || !StoreAnswers(); });
    if (!verdict.has_value()) verdict = found;
    return *verdict;
  }

  absl::Status Explain(Lock& lock, const absl::Status& error, bool timed_out) {
    Watch();
    const auto known = [&] { return verdict.has_value() || !StoreAnswers() || FindLeft().has_value(); };
    // Who is late is seen at once, before they come.
    const int64_t round = rounds;
    changed.wait_for(lock, Duration(kStoreSeconds), [&] { return known() || rounds > round + 1; });
    const std::vector<int> behind = Behind();
    const absl::Status found = timed_out && !behind.empty() ? AreLate(behind) : error;
    // Who is lost takes as long as their next sign of life.
    changed.wait_for(lock, Duration((kSilentIntervals + 1) * options.interval_seconds), known);
    if (verdict.has_value()) return *verdict;
    if (!StoreAnswers()) {
      verdict = StoreIsLost();
      return *verdict;
    }
    if (const std::optional<int> left = FindLeft(); left.has_value()) return Say(lock, HasLeft(*left));
    const std::vector<int> silent = SilentFor(kSilentIntervals * options.interval_seconds);
    return Say(lock, silent.empty() ? found : AreLost(silent));
  }

  // Why collectives are to be aborted, on the heartbeat's thread.
  std::optional<absl::Status> Reason() const {
    if (verdict.has_value()) return verdict;
    if (store_lost) return StoreIsLost();
    if (const auto silent = SilentFor(options.timeout_seconds); !silent.empty()) return AreLost(silent);
    const std::vector<int> behind = Behind();
    if (!behind.empty() && Seconds(Clock::now() - called) > options.timeout_seconds) return AreLate(behind);
    return std::nullopt;
  }
};

Heartbeat::Heartbeat(HeartbeatOptions options)
    : shared_(std::make_shared<Shared>(std::move(options))), thread_([shared = shared_] { Run(shared); }) {}

Heartbeat::~Heartbeat() {
  {
    Shared& s = *shared_;
    std::unique_lock lock(s.mutex);
    s.own.left = true;
    s.LetOthersHear(lock);
    s.ending = true;
    s.changed.notify_all();
    const int64_t round = s.rounds;
    s.changed.wait_for(lock, Duration(kStoreSeconds), [&] { return s.rounds > round || !s.StoreAnswers(); });
    if (!s.store_lost && s.in_store) {
      thread_.detach();
      return;
    }
  }
  thread_.join();
}

void Heartbeat::SetProgress(int64_t step, std::string_view phase) {
  std::lock_guard lock(shared_->mutex);
  Shared& s = *shared_;
  if (s.own.step != step || s.own.phase != phase) s.since = Clock::now();
  s.own.step = step;
  s.own.phase = std::string(phase);
}

void Heartbeat::CountCall() {
  std::lock_guard lock(shared_->mutex);
  ++shared_->own.calls;
  shared_->called = Clock::now();
}

absl::Status Heartbeat::Explain(const absl::Status& error, bool timed_out) {
  std::unique_lock lock(shared_->mutex);
  const absl::Status verdict = shared_->Explain(lock, error, timed_out);
  lock.unlock();
  std::this_thread::sleep_for(Duration(kVictimSeconds));
  return verdict;
}

absl::Status Heartbeat::Aborted() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->aborted ? *shared_->verdict : absl::OkStatus();
}

void Heartbeat::ReportFailure(std::string_view words) {
  std::unique_lock lock(shared_->mutex);
  Shared& s = *shared_;
  if (s.verdict.has_value() || !s.StoreAnswers()) return;
  const absl::Status own =
      absl::UnavailableError(absl::StrCat("rank ", s.options.rank, " was lost: ", std::string(words)));
  if (s.Say(lock, own) == own && s.options.failed != nullptr) s.options.failed();
  s.LetOthersHear(lock);
}

void Heartbeat::Run(const std::shared_ptr<Shared>& shared) {
  Shared& s = *shared;
  c10d::Store& store = *s.options.store;
  std::unique_lock lock(s.mutex);
  while (true) {
    const bool last = s.ending;
    const bool watching = s.watching;
    const bool knew = s.verdict.has_value();
    const std::optional<absl::Status> to_say = std::exchange(s.to_say, std::nullopt);
    ++s.own.count;
    s.own.milliseconds = static_cast<int64_t>(1000 * Seconds(Clock::now() - s.since));
    const std::string own = Encode(s.own);
    s.in_store = true;
    s.round_began = Clock::now();
    lock.unlock();

    std::optional<absl::Status> verdict;
    int64_t heard = 0;
    std::vector<std::pair<int, Beat>> beats;
    std::string error;
    try {
      store.set(s.Key(s.options.rank), own);
      if (to_say.has_value()) {
        verdict = DecodeStatus(store.compareSet(kVerdict, "", Encode(*to_say)));
      } else if (!knew && store.check({kVerdict})) {
        verdict = DecodeStatus(store.get_to_str(kVerdict));
      }
      if (verdict.has_value() || knew) heard = store.add(kHeard, knew ? 0 : 1);
      for (int rank = 0; watching && rank < s.options.size; ++rank) {
        if (rank == s.options.rank || !store.check({s.Key(rank)})) continue;
        if (const auto beat = DecodeBeat(store.get_to_str(s.Key(rank))); beat.has_value()) {
          beats.emplace_back(rank, *beat);
        }
      }
    } catch (const std::exception& caught) {
      error = caught.what();
    }

    lock.lock();
    s.in_store = false;
    ++s.rounds;
    if (verdict.has_value() && !s.verdict.has_value()) s.verdict = verdict;
    s.heard = heard;
    for (const auto& [rank, beat] : beats) {
      Shared::Peer& peer = s.peers[rank];
      if (!peer.beat.has_value() || peer.beat->count != beat.count) peer.changed = Clock::now();
      peer.beat = beat;
    }
    if (!error.empty()) {
      VLOG(1) << "the store no longer answers: " << error;
      s.store_lost = true;
    }
    s.changed.notify_all();

    if (s.options.abort != nullptr && !s.aborted && !s.ending) {
      if (const std::optional<absl::Status> reason = s.Reason(); reason.has_value()) {
        if (!s.verdict.has_value() && !s.store_lost) s.to_say = reason;
        s.verdict = reason;
        s.aborted = true;
        lock.unlock();
        s.options.abort();
        lock.lock();
      }
    }
    if (last || s.store_lost) return;
    // Quicker where somebody waits for what it sees.
    const bool hurry = s.watching && s.options.abort == nullptr;
    s.changed.wait_for(lock, Duration(s.options.interval_seconds / (hurry ? 10 : 1)),
                       [&] { return s.ending || s.to_say.has_value(); });
  }
}

}  // namespace graticule
