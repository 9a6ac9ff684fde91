// What an experiment expects of its metrics.
#ifndef GRATICULE_TRAINER_EXPECTATIONS_H_
#define GRATICULE_TRAINER_EXPECTATIONS_H_

#include <map>
#include <string>
#include <vector>

#include "trainer/experiment.pb.h"

namespace graticule {

struct Expectation {
  std::string line;  // "expected val/top1 ≥ 98: 98.61, holds"
  bool holds;
};

// One for each of the experiment's `expected`; a metric that is not there holds no bound.
std::vector<Expectation> CheckExpectations(const Experiment& experiment, const std::map<std::string, double>& metrics);

// A line for each of them whose metric is none of the `known` ones, such as after the first validation: the training
// would end with it.
std::vector<std::string> UnknownMetrics(const Experiment& experiment, const std::map<std::string, double>& known);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_EXPECTATIONS_H_
