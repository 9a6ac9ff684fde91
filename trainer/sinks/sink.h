// The interface of the sinks: where metrics go.
#ifndef GRATICULE_TRAINER_SINKS_SINK_H_
#define GRATICULE_TRAINER_SINKS_SINK_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace graticule {

struct SinkContext {
  std::string run_directory;  // exists
  int64_t resume_step = 0;    // records after this step are of a run that was cut off, and are dropped; 0: a fresh run
  // Whether the validation at resume_step is among what was saved. If not it comes again, and its record is dropped
  // too.
  bool resume_validated = true;
};

struct MetricsRecord {
  int64_t step = 0;                      // optimizer steps done
  double epoch = 0;                      // epochs done, fractional
  double wall_time = 0;                  // seconds since 1970
  std::map<std::string, double> values;  // "train/loss", "val/top1", "lr", …
};

// What is not a number a step. Sinks that have no place for it leave it out.
struct MediaRecord {
  int64_t step = 0;
  double wall_time = 0;
  std::map<std::string, std::vector<double>> histograms;  // the values: "norm/weights", "norm/gradients"
  std::map<std::string, std::string> images;              // PNG files: "cells/apl"
};

class Sink {
 public:
  static constexpr char kKind[] = "sink";
  using Context = SinkContext;
  virtual ~Sink() = default;

  virtual absl::Status Write(const MetricsRecord& record) = 0;
  virtual absl::Status WriteMedia(const MediaRecord& record) { return absl::OkStatus(); }
  // Everything written is on its way to the disk afterwards.
  virtual absl::Status Flush() = 0;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SINKS_SINK_H_
