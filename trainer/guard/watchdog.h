// Ends a process that no longer makes progress, and says where each of its threads was.
#ifndef GRATICULE_TRAINER_GUARD_WATCHDOG_H_
#define GRATICULE_TRAINER_GUARD_WATCHDOG_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"

namespace graticule {

// The stacks of all threads of this process but the calling one, as text: function names by the symbols of the program
// and its libraries, else library and offset; threads with the same stack stand together. A thread that does not answer
// within seconds, as it hangs in the kernel, stands there with its state. Threads that wait in system calls may find
// these interrupted (EINTR): for a process that is about to end, from one thread.
std::string StacksOfAllThreads();

// A thread of its own watches from the construction on. If no Beat comes for `stall_minutes`, it writes a line and the
// stacks of all threads to standard error, gives the same text to `report`, writes a last line that names
// `report_place` (the file that `report` writes to), and ends the process with exit code 1 at once: no destructor runs.
// `report` may block, to tell other processes for example. `report_seconds` after the stall was found the process ends
// all the same, whatever hangs by then: the stacks or the report, on the lock, the dead disk or the network that the
// others wait for. Time in which the whole process is stopped or the machine sleeps does not count.
class Watchdog {
 public:
  Watchdog(double stall_minutes, std::string report_place, std::function<void(const std::string& text)> report,
           int report_seconds = 50);
  // Stops watching; does not wait.
  ~Watchdog();

  // Progress was made: a step, a batch of a validation, a checkpoint. From any thread; as cheap as an increment.
  void Beat() { beats_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void Watch();
  [[noreturn]] void EndProcess();

  const double stall_seconds_;
  const std::string report_place_;
  const std::function<void(const std::string&)> report_;
  const int report_seconds_;
  std::atomic<uint64_t> beats_ = 0;
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_GUARD_WATCHDOG_H_
