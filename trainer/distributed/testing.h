// For tests of what several processes do together: the test's own program, started once for each rank.
#ifndef GRATICULE_TRAINER_DISTRIBUTED_TESTING_H_
#define GRATICULE_TRAINER_DISTRIBUTED_TESTING_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/distributed/ranks.h"

namespace graticule {

struct RankResult {
  int exit_code = 0;   // 128 + its number for a signal
  std::string output;  // of stdout and stderr
  double seconds = 0;  // from the start of the ranks to its end
};

// What each rank does, by name; its return value is the rank's exit code.
using RankMain = std::function<int()>;

// A test's main calls it first, with argc and argv of its own: runs the tests, or the rank's part in a rank.
int RunTestsOrRank(int argc, char** argv, const std::map<std::string, RankMain>& mains);

// The variable that makes a process of this program a rank that runs mains[name].
std::string RankMainVariable(const std::string& name);

// Starts `size` ranks of mains[name], and calls `meanwhile` with their process ids. Waits for all.
std::vector<RankResult> RunRanks(int size, const std::string& name,
                                 const std::function<void(const std::vector<pid_t>&)>& meanwhile = nullptr);

// For a rank: joins the others on the CPU. Ends the process with the status as its output where it can't.
std::unique_ptr<Ranks> JoinOrDie(double timeout_seconds = 20);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_DISTRIBUTED_TESTING_H_
