#ifndef GRATICULE_TASKS_CLASSIFICATION_CLASSIFICATION_H_
#define GRATICULE_TASKS_CLASSIFICATION_CLASSIFICATION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backbones/backbone.h"
#include "labels/objective.h"
#include "labels/objective.pb.h"
#include "nn/layers.h"
#include "pooling/pooling.h"
#include "tasks/classification/classification.pb.h"
#include "tasks/task.h"

namespace graticule {

// L = cross-entropy(head(pooling(backbone(images))), labels) + Σ λ_o · L_o over the objectives o.
//
// Metrics in training: "loss" (the sum), "NAME/loss" and what else each objective reports. In evaluation: "loss" (plain
// cross-entropy), "top1" and "top5" in percent.
class ClassificationTask : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Create(const Classification& config, const TaskContext& context);

  TaskOutput Train(const Batch& batch, double progress) override;
  void Evaluate(const Batch& batch, Metrics& metrics) override;
  std::string HeadlineMetric() const override { return "top1"; }
  std::map<std::string, at::Tensor> Predict(const at::Tensor& images, const PredictOptions& options) override;
  std::map<std::string, at::Tensor> PredictedCells(const at::Tensor& images) override;
  std::optional<Size2d> grid() const override { return model_->backbone->grid(); }
  std::vector<NamedParameter> ModelParameters() const override;
  std::vector<NamedBuffer> ModelBuffers() const override;
  std::map<std::string, std::vector<NamedParameter>> ObjectiveParameters() const override;
  at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const override;
  std::vector<std::string> ClassifierNames() const override;
  std::vector<WeightLayout> Layouts() const override;
  std::map<std::string, std::vector<WeightLayout>> ObjectiveLayouts() const override;
  absl::StatusOr<TimmModel> Timm() const override;
  std::string TypeName() const override { return "Classification"; }

 private:
  struct Auxiliary {
    std::string name;
    ObjectiveSpec spec;
    Objective* objective;
  };

  // What is exported and evaluated: everything but the objectives. Its names are those of the checkpoint.
  class Model : public Module {
   public:
    Model(std::unique_ptr<Backbone> backbone, std::unique_ptr<Pooling> pooling, int64_t classes);
    // [B,K]; with a distillation token the mean of the two heads.
    at::Tensor Logits(const TokenMap& tokens);
    std::string TypeName() const override { return "Model"; }

    Backbone* backbone;
    Pooling* pooling;
    Linear head;                        // D → K
    std::unique_ptr<Linear> head_dist;  // of the distillation token; null without one
  };

  ClassificationTask(const Classification& config, std::unique_ptr<Model> model);

  ObjectiveInput InputOfObjectives(const at::Tensor& images, const TokenMap& tokens) const;

  Classification config_;
  Model* model_;
  std::vector<Auxiliary> objectives_;
};

// λ of an objective when `progress` (0 to 1) of the training is over.
double ObjectiveWeight(const ObjectiveSpec& spec, double progress);

}  // namespace graticule

#endif  // GRATICULE_TASKS_CLASSIFICATION_CLASSIFICATION_H_
