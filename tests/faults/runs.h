// Trainings that are made to fail.
#ifndef GRATICULE_TESTS_FAULTS_RUNS_H_
#define GRATICULE_TESTS_FAULTS_RUNS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/program.h"

namespace graticule {

// TinySpec with all that a step may draw or remember: mixup, CutMix, drop path, an absolute positional label, a moving
// average with warm-up, clipping, accumulation. 320 steps of 8 epochs.
std::string LongSpec();

// A fresh folder with a spec, and trainings of it.
class FaultTest : public testing::Test {
 protected:
  // The arguments that train LongSpec into the folder's `run`.
  std::vector<std::string> TrainArguments(const std::string& run, const std::vector<std::string>& more = {});
  std::string Run(const std::string& name) const { return folder_ + "/" + name; }
  // Trains to the end, which must be a good one.
  std::string Train(const std::string& name, const std::vector<std::string>& more = {});

  const std::string folder_ = FreshFolder("work");
};

// Step of the newest checkpoint of a run; nothing where there is none.
std::optional<int64_t> NewestStep(const std::string& run);

// Process of a rank that a launcher has started; waits for it. -1 where it does not come.
pid_t RankOf(pid_t launcher, int rank);

}  // namespace graticule

#endif  // GRATICULE_TESTS_FAULTS_RUNS_H_
