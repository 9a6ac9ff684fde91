#include "tasks/classification/classification.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/cross_entropy_loss.h"
#include "ATen/ops/kl_div.h"
#include "ATen/ops/log_softmax.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "c10/core/GradMode.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

// Of the metrics' names, beside those of objectives.
constexpr char kDistillation[] = "distillation";

double Alpha(const Distillation& config) { return config.has_alpha() ? config.alpha() : 0.5; }
double Temperature(const Distillation& config) { return config.has_temperature() ? config.temperature() : 3; }

void CheckWeight(const ObjectiveSpec& spec, const std::string& path, FieldErrors& errors) {
  if (spec.has_weight() && !(spec.weight() >= 0 && std::isfinite(spec.weight()))) {
    errors.Add(path + ".weight", absl::StrCat("must not be negative, found ", spec.weight()));
  }
  double previous = 0;
  for (int i = 0; i < spec.weight_schedule_size(); ++i) {
    const ObjectiveSpec::Point& point = spec.weight_schedule(i);
    const std::string at = absl::StrCat(path, ".weight_schedule[", i, "]");
    if (!(point.weight() >= 0))
      errors.Add(at + ".weight", absl::StrCat("must not be negative, found ", point.weight()));
    if (!(point.progress() >= previous && point.progress() <= 1)) {
      errors.Add(at + ".progress", absl::StrCat("must go up from 0 to 1, found ", point.progress(), i ? " after " : "",
                                                i ? absl::StrCat(previous) : ""));
    }
    previous = point.progress();
  }
}

// It becomes part of metrics' names, of a column's head in metrics.csv, and of the names of weights.
void CheckName(const std::string& name, const std::string& path, FieldErrors& errors) {
  const auto allowed = [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; };
  if (name == kDistillation || !std::all_of(name.begin(), name.end(), allowed)) {
    errors.Add(path, absl::StrCat("must be of letters, digits, '_', '-' and '.', and not '", kDistillation,
                                  "', found '", name, "'"));
  }
}

void CheckDistillation(const Distillation& config, FieldErrors& errors) {
  if (!Distillation::Type_IsValid(config.type())) {
    errors.Add("task.distillation.type", absl::StrCat("must be HARD or SOFT, found ", config.type()));
  }
  if (const double alpha = Alpha(config); !(alpha >= 0 && alpha <= 1)) {
    errors.Add("task.distillation.alpha", absl::StrCat("must be in [0, 1], found ", alpha));
  }
  if (const double temperature = Temperature(config); !(temperature > 0 && std::isfinite(temperature))) {
    errors.Add("task.distillation.temperature", absl::StrCat("must be positive, found ", temperature));
  }
}

}  // namespace

at::Tensor DistillationLoss(const Distillation& config, const at::Tensor& logits, const at::Tensor& teacher_logits) {
  if (config.type() != Distillation::SOFT) return at::cross_entropy_loss(logits, teacher_logits.argmax(1));
  const double temperature = Temperature(config);
  const at::Tensor divergence =
      at::kl_div(at::log_softmax(logits.div(temperature), 1), at::log_softmax(teacher_logits.div(temperature), 1),
                 /*reduction=sum*/ 2, /*log_target=*/true);
  return divergence.mul(temperature * temperature / static_cast<double>(logits.numel()));
}

double ObjectiveWeight(const ObjectiveSpec& spec, double progress) {
  const auto& points = spec.weight_schedule();
  if (points.empty()) return spec.has_weight() ? spec.weight() : 0.5;
  if (progress <= points.begin()->progress()) return points.begin()->weight();
  for (int i = 1; i < points.size(); ++i) {
    const auto& a = points[i - 1];
    const auto& b = points[i];
    if (progress < b.progress()) {
      return a.weight() + (b.weight() - a.weight()) * (progress - a.progress()) / (b.progress() - a.progress());
    }
  }
  return points.rbegin()->weight();
}

absl::StatusOr<std::unique_ptr<Task>> ClassificationTask::Create(const Classification& config,
                                                                 const TaskContext& context) {
  FieldErrors errors;
  if (!(config.label_smoothing() >= 0 && config.label_smoothing() < 1)) {
    errors.Add("task.label_smoothing", absl::StrCat("must be in [0, 1), found ", config.label_smoothing()));
  }
  if (config.has_distillation()) CheckDistillation(config.distillation(), errors);
  const int64_t known_classes = context.class_names.size();
  const int64_t classes = known_classes > 0 ? known_classes : config.num_classes();
  if (config.num_classes() < 0) {
    errors.Add("task.num_classes", absl::StrCat("must not be negative, found ", config.num_classes()));
  } else if (classes == 0 && !MetaScope::active()) {
    errors.Add("task.num_classes", "must be given where the data set is not at hand");
  }

  auto pooling = Registry<Pooling>::Create(context.pooling, {});
  errors.Add("pooling", pooling.status());

  // A backbone has mistakes of its own to report even where the pooling is wrong.
  BackboneContext backbone_context{.image_size = context.image_size};
  if (pooling.ok()) backbone_context.contract = (*pooling)->contract();
  auto backbone = Registry<Backbone>::Create(context.backbone, backbone_context);
  errors.Add("backbone", backbone.status());

  std::vector<std::pair<std::string, std::unique_ptr<Objective>>> objectives;
  std::set<std::string> names;
  for (size_t i = 0; i < context.objectives.size(); ++i) {
    const ObjectiveSpec& spec = context.objectives[i];
    const std::string path = absl::StrCat("objectives[", i, "]");
    CheckWeight(spec, path, errors);
    CheckName(spec.name(), path + ".name", errors);
    if (!backbone.ok()) continue;
    auto objective = Registry<Objective>::Create(
        spec.objective(),
        {.width = (*backbone)->width(), .grid = (*backbone)->grid(), .can_select = (*backbone)->CanSelect()});
    errors.Add(path + ".objective", objective.status());
    if (!objective.ok()) continue;
    const std::string name = spec.name().empty() ? (*objective)->DefaultName() : spec.name();
    if (!names.insert(name).second) {
      errors.Add(path + ".name", absl::StrCat("two objectives are called '", name, "'; give one another name"));
    }
    objectives.emplace_back(name, *std::move(objective));
  }
  if (!errors.empty()) return errors.ToStatus();

  (*pooling)->Build((*backbone)->width());
  std::unique_ptr<ClassificationTask> task(
      new ClassificationTask(config, std::make_unique<Model>(*std::move(backbone), *std::move(pooling), classes)));
  for (size_t i = 0; i < objectives.size(); ++i) {
    auto& [name, objective] = objectives[i];
    task->objectives_.push_back({name, context.objectives[i], objective.get()});
    task->RegisterModule("objectives." + name, std::move(objective));
  }
  return task;
}

ClassificationTask::Model::Model(std::unique_ptr<Backbone> backbone_in, std::unique_ptr<Pooling> pooling_in,
                                 int64_t classes)
    : head(backbone_in->width(), classes) {
  backbone = RegisterModule("", std::move(backbone_in));
  pooling = RegisterModule("pooling", std::move(pooling_in));
  RegisterModule(backbone->HeadName(), &head);
  if (pooling->contract().distillation_token) {
    head_dist = std::make_unique<Linear>(backbone->width(), classes);
    RegisterModule(backbone->HeadName() + "_dist", head_dist.get());
  }
}

std::pair<at::Tensor, at::Tensor> ClassificationTask::Model::HeadLogits(const TokenMap& tokens) {
  const at::Tensor pooled = pooling->Forward(tokens);
  if (head_dist != nullptr) return {head.Forward(pooled.select(1, 0)), head_dist->Forward(pooled.select(1, 1))};
  const at::Tensor logits = head.Forward(pooled);
  return {logits, logits};
}

at::Tensor ClassificationTask::Model::Logits(const TokenMap& tokens) {
  const auto [logits, distilled] = HeadLogits(tokens);
  return head_dist == nullptr ? logits : logits.add(distilled).div(2);
}

ClassificationTask::ClassificationTask(const Classification& config, std::unique_ptr<Model> model)
    : config_(config), model_(RegisterModule("", std::move(model))) {}

TaskOutput ClassificationTask::Train(const Batch& batch, double progress) {
  const TokenMap tokens = model_->backbone->Forward(batch.images);
  TaskOutput output;
  output.loss = ModelLoss(batch, tokens, output.metrics);
  const ObjectiveInput input = InputOfObjectives(batch.images, tokens);
  for (const Auxiliary& auxiliary : objectives_) {
    const ObjectiveOutput result = auxiliary.objective->Forward(input);
    output.loss = output.loss.add(result.loss, ObjectiveWeight(auxiliary.spec, progress));
    output.metrics.Add(auxiliary.name + "/", result.metrics);
  }
  output.metrics.Add("loss", output.loss.detach().mul(batch.size()), batch.size());
  return output;
}

at::Tensor ClassificationTask::ModelLoss(const Batch& batch, const TokenMap& tokens, Metrics& metrics) const {
  const at::Tensor& target = batch.soft_labels.defined() ? batch.soft_labels : batch.labels;
  const auto loss_on_labels = [&](const at::Tensor& logits) {
    return at::cross_entropy_loss(logits.to(at::kFloat), target, /*weight=*/{}, /*reduction=mean*/ 1,
                                  /*ignore_index=*/-100, config_.label_smoothing());
  };
  if (!config_.has_distillation()) return loss_on_labels(model_->Logits(tokens));

  CHECK(batch.teacher_logits.defined()) << "whoever trains a task that wants a teacher asks one";
  const auto [logits, distilled] = model_->HeadLogits(tokens);
  const at::Tensor loss =
      DistillationLoss(config_.distillation(), distilled.to(at::kFloat), batch.teacher_logits.detach());
  const at::Tensor agreed = distilled.argmax(1).eq(batch.teacher_logits.argmax(1));  // [B]
  metrics.Add(absl::StrCat(kDistillation, "/loss"), loss.detach().mul(batch.size()), batch.size());
  metrics.Add(absl::StrCat(kDistillation, "/agreement"), agreed.sum().mul(100.0), batch.size());
  const double alpha = Alpha(config_.distillation());
  return loss_on_labels(logits).mul(1 - alpha).add(loss, alpha);
}

void ClassificationTask::Evaluate(const Batch& batch, Metrics& metrics) {
  const at::Tensor logits = model_->Logits(model_->backbone->Forward(batch.images)).to(at::kFloat);
  const int64_t k = std::min<int64_t>(5, logits.size(1));
  const at::Tensor ranked = std::get<1>(logits.topk(k, 1));      // [B,k]
  const at::Tensor hits = ranked.eq(batch.labels.unsqueeze(1));  // [B,k]
  metrics.Add("loss", at::cross_entropy_loss(logits, batch.labels).mul(batch.size()), batch.size());
  metrics.Add("top1", hits.narrow(1, 0, 1).sum().mul(100.0), batch.size());
  metrics.Add("top5", hits.sum().mul(100.0), batch.size());
}

std::map<std::string, at::Tensor> ClassificationTask::Predict(const at::Tensor& images, const PredictOptions& options) {
  const TokenMap map = model_->backbone->Forward(images);
  std::map<std::string, at::Tensor> outputs = {{"logits", model_->Logits(map)}};
  if (options.tokens) outputs["tokens"] = map.tokens;
  if (options.objectives) {
    const ObjectiveInput input = InputOfObjectives(images, map);
    for (const Auxiliary& auxiliary : objectives_) {
      outputs[auxiliary.name + "/logits"] = auxiliary.objective->Logits(input);
    }
  }
  return outputs;
}

std::map<std::string, at::Tensor> ClassificationTask::PredictedCells(const at::Tensor& images) {
  c10::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> all;
  if (objectives_.empty()) return all;
  const ObjectiveInput input = InputOfObjectives(images, model_->backbone->Forward(images));
  for (const Auxiliary& auxiliary : objectives_) {
    at::Tensor cells = auxiliary.objective->PredictedCells(input);
    if (cells.defined()) all[auxiliary.name] = std::move(cells);
  }
  return all;
}

ObjectiveInput ClassificationTask::InputOfObjectives(const at::Tensor& images, const TokenMap& tokens) const {
  ObjectiveInput input{tokens};
  if (model_->backbone->CanSelect()) {
    input.pass_again = [this, images](const PatchSelection& selection) {
      return model_->backbone->ForwardSelected(images, selection);
    };
  }
  return input;
}

std::vector<std::string> ClassificationTask::ClassifierNames() const {
  const std::string head = model_->backbone->HeadName();
  std::vector<std::string> names = {head + ".weight", head + ".bias"};
  if (model_->head_dist != nullptr) {
    names.push_back(head + "_dist.weight");
    names.push_back(head + "_dist.bias");
  }
  return names;
}

std::vector<WeightLayout> ClassificationTask::Layouts() const { return model_->backbone->Layouts(); }

std::map<std::string, std::vector<WeightLayout>> ClassificationTask::ObjectiveLayouts() const {
  std::map<std::string, std::vector<WeightLayout>> layouts;
  for (const Auxiliary& auxiliary : objectives_) layouts[auxiliary.name] = auxiliary.objective->Layouts();
  return layouts;
}

absl::StatusOr<TimmModel> ClassificationTask::Timm() const {
  const PositionDelivery delivery = model_->pooling->contract().delivery;
  if (!delivery.add_to_input() || delivery.layers() != PositionDelivery::NONE || delivery.has_last()) {
    return absl::UnimplementedError(
        "timm delivers the position to the input alone, not to the layers or the last norm as LaPE, PVG and MPVG do");
  }
  const std::string pooling = model_->pooling->TimmName();
  if (pooling.empty()) {
    return absl::UnimplementedError(absl::StrCat("timm has no pooling like ", model_->pooling->TypeName()));
  }
  ASSIGN_OR_RETURN(TimmModel model, model_->backbone->Timm());
  model.arguments["global_pool"] = pooling;
  return model;
}

std::vector<NamedParameter> ClassificationTask::ModelParameters() const { return model_->Parameters(); }
std::vector<NamedBuffer> ClassificationTask::ModelBuffers() const { return model_->Buffers(); }

std::map<std::string, std::vector<NamedParameter>> ClassificationTask::ObjectiveParameters() const {
  std::map<std::string, std::vector<NamedParameter>> parameters;
  for (const Auxiliary& auxiliary : objectives_) parameters[auxiliary.name] = auxiliary.objective->Parameters();
  return parameters;
}

at::Tensor ClassificationTask::Adapt(const std::string& name, const at::Tensor& loaded) const {
  return model_->backbone->Adapt(name, loaded);
}

namespace {
const Registration<Task, Classification> kRegistration("Image classification by cross-entropy on pooled tokens", "",
                                                       &ClassificationTask::Create);
}  // namespace

}  // namespace graticule
