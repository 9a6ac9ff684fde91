// What a spec's model consists of, found without making its weights.
#ifndef GRATICULE_APP_MODEL_SUMMARY_H_
#define GRATICULE_APP_MODEL_SUMMARY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/token_map.h"
#include "trainer/experiment.pb.h"

namespace graticule {

struct ModelSummary {
  Size2d image_size;
  int64_t parameters = 0;                               // of the model; objectives aside
  std::map<std::string, int64_t> objective_parameters;  // by the objective's name
  MacCount macs;                                        // of predicting one image
  std::optional<Size2d> grid;                           // h×w of the patch tokens, where there are some
  std::vector<std::string> class_names;                 // empty where the spec's task gave their number
  std::string table;                                    // of the modules
};

// With the data set's classes, or without names with as many as the task's config says; where that leaves it to the
// data set, this is opened. `depth`: levels of modules in the table.
absl::StatusOr<ModelSummary> SummariseModel(const Experiment& experiment, int depth,
                                            const std::vector<std::string>& class_names = {});

// A line for each module down to `depth` levels: type, shapes of its own parameters, parameters and multiply-adds with
// all below it. Neighbours that are alike, such as blocks.0 … blocks.11, share one line (and their insides are shown
// once).
std::string ModuleTable(const Module& root, const MacCount& macs, int depth);

}  // namespace graticule

#endif  // GRATICULE_APP_MODEL_SUMMARY_H_
