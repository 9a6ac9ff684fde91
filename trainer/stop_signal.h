// Asks a training to end in good order.
#ifndef GRATICULE_TRAINER_STOP_SIGNAL_H_
#define GRATICULE_TRAINER_STOP_SIGNAL_H_

#include <string>

namespace graticule {

// While it lives, SIGTERM, SIGUSR1, SIGINT and SIGHUP do not end the program: what they ask for stands in Requested().
// The same signal once more does what it would have done without this, unless it comes within a second: who signals a
// whole group of processes reaches a rank by itself and through its launcher. SIGHUP stays ignored under nohup.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // The signal that came, or 0.
  static int Requested();
};

// "SIGTERM".
std::string SignalName(int signal);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_STOP_SIGNAL_H_
