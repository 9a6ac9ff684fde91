// Weights into models and out of them, by name, whichever code the names are of.
#ifndef GRATICULE_TRAINER_CHECKPOINT_WEIGHTS_H_
#define GRATICULE_TRAINER_CHECKPOINT_WEIGHTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nn/safetensors.h"
#include "tasks/task.h"

namespace graticule {

// The tensors that are saved; they share storage with the task's. Of the model, parameters and buffers:
Safetensors ModelTensors(const Task& task);
// and of the objectives, named NAME.parameter.
Safetensors ObjectiveTensors(const Task& task);

// What became of each tensor when weights were loaded into a task.
struct LoadReport {
  std::string layout;                      // whose names the checkpoint has (WeightLayout::name); "" for our own
  std::string prefix;                      // what a wrapper has put in front of the names: "module."
  std::vector<std::string> loaded;         // as they are
  std::vector<std::string> adapted;        // interpolated to this model's size
  std::vector<std::string> reinitialised;  // the classifier, where it is of another number of classes or none
  std::vector<std::string> ignored;        // names there that the task has no use for
  std::vector<std::string> objectives;     // that have their weights from there
  std::vector<std::string> fresh_objectives;
  std::string ToString() const;  // one line
};

// Copies `weights` into the task: into its model, and into the objectives of which the checkpoint has all weights in
// the right shapes; the other ones stay as they are. The checkpoint may have our names (which are timm's where timm has
// the model) or those of one of the task's layouts, behind the prefixes of the usual wrappers ("module."). Position
// tables of another grid are adapted; a classifier of another number of classes, or none, stays fresh; what the task
// has no use for is ignored. All that is said in the report.
//
// FailedPrecondition if tensors of the model are missing or their shapes differ otherwise: a checkpoint of another
// model, whose differences from the nearest layout are named; or if that layout has a refusal. Nothing is copied then.
absl::StatusOr<LoadReport> LoadWeights(const Safetensors& weights, Task& task);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_CHECKPOINT_WEIGHTS_H_
