#include "trainer/stop_signal.h"

#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>

namespace graticule {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};
std::atomic<int> requested = 0;
std::atomic<int64_t> first_times[NSIG];  // of each signal, in nanoseconds; 0 before
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);
struct sigaction previous[std::size(kSignals)];

// In a signal's handler: nothing but what such a one may call.
void Note(int signal) {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  const int64_t now = time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
  int64_t first = 0;
  if (first_times[signal].compare_exchange_strong(first, now)) {
    requested = signal;
  } else if (now - first > 1'000'000'000) {
    ::signal(signal, SIG_DFL);
    raise(signal);
  }
}

}  // namespace

StopSignal::StopSignal() {
  requested = 0;
  for (std::atomic<int64_t>& time : first_times) time = 0;
  struct sigaction action {};
  action.sa_handler = &Note;
  action.sa_flags = SA_RESTART;  // calls that wait go on
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], nullptr, &previous[i]);
    if (kSignals[i] == SIGHUP && previous[i].sa_handler == SIG_IGN) continue;
    sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &previous[i], nullptr);
}

int StopSignal::Requested() { return requested; }

std::string SignalName(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

}  // namespace graticule
