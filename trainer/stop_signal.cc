#include "trainer/stop_signal.h"

#include <signal.h>

#include <atomic>
#include <cstring>
#include <string>

namespace graticule {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT};
std::atomic<int> requested = 0;
static_assert(std::atomic<int>::is_always_lock_free);
struct sigaction previous[std::size(kSignals)];

void Note(int signal) { requested = signal; }

}  // namespace

StopSignal::StopSignal() {
  requested = 0;
  struct sigaction action {};
  action.sa_handler = &Note;
  // The second one takes the default way; calls that wait go on.
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &previous[i]);
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
