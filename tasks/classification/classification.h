#ifndef GRATICULE_TASKS_CLASSIFICATION_CLASSIFICATION_H_
#define GRATICULE_TASKS_CLASSIFICATION_CLASSIFICATION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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

// L = cross-entropy(head(pooling(backbone(images))), labels) + Σ λ_o · L_o over the objectives o. With distillation
// (1 − α) · cross-entropy + α · DistillationLoss is in the cross-entropy's place.
//
// Metrics in training: "loss" (the sum), "NAME/loss" and what else each objective reports; with distillation
// "distillation/loss" and "distillation/agreement", how often student and teacher find the same class likeliest, in
// percent. In evaluation: "loss" (plain cross-entropy), "top1" and "top5" in percent.
class ClassificationTask : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Create(const Classification& config, const TaskContext& context);

  TaskOutput Train(const Batch& batch, double progress) override;
  bool WantsTeacher() const override { return config_.has_distillation(); }
  void Evaluate(const Batch& batch, Metrics& metrics) override;
  std::vector<std::string> EvaluationMetrics() const override { return {"top1", "top5", "loss"}; }
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
    // [B,K] of the class token's head and of the distillation token's; without such a token twice those of the one
    // head.
    std::pair<at::Tensor, at::Tensor> HeadLogits(const TokenMap& tokens);
    // [B,K]; with a distillation token the mean of the two heads.
    at::Tensor Logits(const TokenMap& tokens);
    std::string TypeName() const override { return "Model"; }

    Backbone* backbone;
    Pooling* pooling;
    Linear head;                        // D → K
    std::unique_ptr<Linear> head_dist;  // of the distillation token; null without one
  };

  ClassificationTask(const Classification& config, std::unique_ptr<Model> model);

  // The loss on the labels and, where there is one, on the teacher.
  at::Tensor ModelLoss(const Batch& batch, const TokenMap& tokens, Metrics& metrics) const;
  ObjectiveInput InputOfObjectives(const at::Tensor& images, const TokenMap& tokens) const;

  Classification config_;
  Model* model_;
  std::vector<Auxiliary> objectives_;
};

// What a student with `logits` [B,K] has yet to learn from a teacher with `teacher_logits` [B,K] (0-d), as in losses.py
// of github.com/facebookresearch/deit:
//   HARD: cross-entropy(logits, argmax teacher_logits)
//   SOFT: T² / (B · K) · Σ p_t · (log p_t − log p) over batch and classes, p = softmax(logits / T), p_t the teacher's
at::Tensor DistillationLoss(const Distillation& config, const at::Tensor& logits, const at::Tensor& teacher_logits);

// λ of an objective when `progress` (0 to 1) of the training is over.
double ObjectiveWeight(const ObjectiveSpec& spec, double progress);

}  // namespace graticule

#endif  // GRATICULE_TASKS_CLASSIFICATION_CLASSIFICATION_H_
