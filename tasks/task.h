// The interface of the tasks: what is learnt. A task owns the forward pass, the loss and the metrics; the trainer knows
// only this.
#ifndef GRATICULE_TASKS_TASK_H_
#define GRATICULE_TASKS_TASK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "data/batch.h"
#include "google/protobuf/any.pb.h"
#include "labels/objective.pb.h"
#include "nn/metrics.h"
#include "nn/module.h"
#include "nn/token_map.h"
#include "nn/weight_layout.h"

namespace graticule {

// The parts that the spec wires together, and what the data says. Errors that a task returns carry field paths as they
// are in the spec: "backbone.patch_size", "objectives[0].objective.…", "task.…".
struct TaskContext {
  google::protobuf::Any backbone;
  google::protobuf::Any pooling;
  std::vector<ObjectiveSpec> objectives;
  Size2d image_size;
  std::vector<std::string> class_names;  // the data set's, K of them; empty where it is not at hand
};

struct TaskOutput {
  at::Tensor loss;  // 0-d
  Metrics metrics;  // "loss", "apl/loss", "apl/accuracy", …
};

// What Task::Predict gives besides the logits.
struct PredictOptions {
  bool tokens = false;      // "tokens" [B,T,D]
  bool objectives = false;  // "NAME/logits", what each objective's head says: see Objective::Logits
};

class Task : public Module {
 public:
  static constexpr char kKind[] = "task";
  using Context = TaskContext;

  // The loss of a training batch. `progress`: share of the training that is over, 0 to 1, for schedules.
  virtual TaskOutput Train(const Batch& batch, double progress) = 0;
  // Whether Train needs the batch's teacher_logits.
  virtual bool WantsTeacher() const { return false; }
  // Adds a validation batch to `metrics`, under the names of EvaluationMetrics(); no objectives are run.
  virtual void Evaluate(const Batch& batch, Metrics& metrics) = 0;
  // Such as {"top1", "top5", "loss"}, the one that says most first. Less is better of names that end in "loss", and
  // more of all others.
  virtual std::vector<std::string> EvaluationMetrics() const = 0;
  // What the model says of images [B,3,H,W]: at least "logits" [B,K].
  virtual std::map<std::string, at::Tensor> Predict(const at::Tensor& images, const PredictOptions& options) = 0;
  // By the objective's name, the raster index of the cell that it finds each patch of images [B,3,H,W] in: [B,N] int64.
  // Objectives that say no such thing are left out. No gradients; nothing random in evaluation mode.
  virtual std::map<std::string, at::Tensor> PredictedCells(const at::Tensor& images) { return {}; }

  // h×w of the model's patch tokens, where it has such.
  virtual std::optional<Size2d> grid() const { return std::nullopt; }
  // Parameters that belong to the model that is exported and evaluated; the objectives' are the rest.
  virtual std::vector<NamedParameter> ModelParameters() const = 0;
  virtual std::vector<NamedBuffer> ModelBuffers() const = 0;
  // Parameters of each objective, by its name.
  virtual std::map<std::string, std::vector<NamedParameter>> ObjectiveParameters() const = 0;
  // See Backbone::Adapt.
  virtual at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const { return at::Tensor(); }
  // Names, such as "head.weight", of which a checkpoint of another number of classes may leave the fresh weights: of
  // each classifier the weight [K,D], then the bias.
  virtual std::vector<std::string> ClassifierNames() const = 0;
  // The other codes whose checkpoints hold the model under names of their own; and, by the objective's name, those that
  // hold its weights.
  virtual std::vector<WeightLayout> Layouts() const { return {}; }
  virtual std::map<std::string, std::vector<WeightLayout>> ObjectiveLayouts() const { return {}; }
  // The model in timm, with the names of its tensors as they are; Unimplemented, saying what timm lacks, where timm has
  // no such model.
  virtual absl::StatusOr<TimmModel> Timm() const { return absl::UnimplementedError("timm has no " + TypeName()); }
};

}  // namespace graticule

#endif  // GRATICULE_TASKS_TASK_H_
