// The speed of an experiment's data loader alone.
#ifndef GRATICULE_APP_BENCH_DATA_H_
#define GRATICULE_APP_BENCH_DATA_H_

#include <string>

#include "absl/status/status.h"
#include "trainer/experiment.pb.h"

namespace graticule {

struct BenchDataOptions {
  std::string spec;  // what the report calls the experiment
  int steps = 10;    // batches of one measurement
  int threads = 0;   // of the loader; 0: measure with 1, 2, 4, … up to the spec's or the machine's
  int rounds = 1;
  bool interactive = false;  // each round waits for a line on standard input
  bool json = false;
};

// Loads training batches of trainer.batch_size and prints images a second and a core, where the threads' time went, and
// what normalising them on the device takes.
absl::Status BenchData(const Experiment& experiment, const BenchDataOptions& options);

}  // namespace graticule

#endif  // GRATICULE_APP_BENCH_DATA_H_
