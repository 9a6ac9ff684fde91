#include "trainer/trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/_foreach_norm.h"
#include "ATen/ops/scalar_tensor.h"
#include "ATen/ops/stack.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "c10/core/GradMode.h"
#include "data/batch.h"
#include "data/draw.h"
#include "nn/metrics.h"
#include "nn/module.h"
#include "nn/safetensors.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "plugin/version.h"
#include "torch/headeronly/version.h"
#include "trainer/cells_figure.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/device.h"
#include "trainer/distributed/gradient_reducer.h"
#include "trainer/distributed/ranks.h"
#include "trainer/distributed/sum_metrics.h"
#include "trainer/ema.h"
#include "trainer/evaluate.h"
#include "trainer/expectations.h"
#include "trainer/guard/dump.h"
#include "trainer/guard/non_finite.h"
#include "trainer/guard/watchdog.h"
#include "trainer/loss_scaler.h"
#include "trainer/optimizers/parameter_groups.h"
#include "trainer/parts.h"
#include "trainer/profile.h"
#include "trainer/progress.h"
#include "trainer/run_directory.h"
#include "trainer/run_log.h"
#include "trainer/run_summary.h"
#include "trainer/sinks/sink.h"
#include "trainer/spec.h"
#include "trainer/step.h"
#include "trainer/stop_signal.h"
#include "trainer/teacher.h"

namespace graticule {
namespace {

// What a rank that is to end asks of the others in a validation, of which each does its part by itself.
constexpr char kBreakOff[] = "break off";

double Now() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

template <typename T>
T OrDefault(T value, T otherwise) {
  return value > 0 ? value : otherwise;
}

std::vector<at::Tensor> TensorsOf(const Safetensors& contents) {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : contents.tensors) tensors.push_back(tensor);
  return tensors;
}

std::vector<double> ToDoubles(const at::Tensor& values) {
  const at::Tensor doubles = values.to(at::kCPU, at::kDouble).contiguous();
  return {doubles.const_data_ptr<double>(), doubles.const_data_ptr<double>() + doubles.numel()};
}

class Training {
 public:
  Training(const Experiment& experiment, DataParts data, const TrainOptions& options)
      : experiment_(experiment), config_(experiment_.trainer()), options_(options), data_(std::move(data)) {}

  absl::Status Run() {
    start_ = Now();
    absl::Status status;
    try {
      status = RunAll();
    } catch (...) {
      status = CurrentExceptionToStatus(absl::StrCat("step ", state_.step()));
    }
    if (ranks_ != nullptr && !status.ok()) ranks_->ReportFailure(std::string(status.message()));
    if (begun_ || (ran_ && !IsCompleted(options_.output))) Summarise(ExitReason(status, stopped_by_));
    return status;
  }

 private:
  absl::Status RunAll() {
    RETURN_IF_ERROR(Meet());
    stop_signal_.emplace();  // before, there is nothing to save
    RETURN_IF_ERROR(Build());
    RETURN_IF_ERROR(Resume());
    // The schedule knows epochs of this size alone.
    ASSIGN_OR_RETURN(schedule_,
                     BuildSchedule(experiment_, {.per_epoch = steps_.per_epoch, .total = steps_.total - first_step_}));
    Announce();
    // A run that was complete already stays as it is.
    begun_ = !Complete() || state_.validated_step() != state_.step();
    if (begun_) {
      if (chief()) RETURN_IF_ERROR(directory_->WriteSpec());
      RETURN_IF_ERROR(OpenSinks());
      Summarise("running");
    }
    ran_ = true;
    StartWatchdog();
    if (options_.profile.has_value()) {
      profiler_.emplace(*options_.profile, options_.output, ranks_->rank(), device_);
    }

    training_start_ = last_save_ = Now();
    // A run that was stopped between an epoch's last step and what follows it.
    if (state_.step() > 0 && (state_.epoch_steps() == 0 || Complete())) RETURN_IF_ERROR(FinishEpoch());
    while (!Complete() && stopped_by_ == 0) RETURN_IF_ERROR(RunEpoch());
    if (profiler_.has_value()) {
      ASSIGN_OR_RETURN(const std::optional<std::string> trace, profiler_->Finish());
      if (trace.has_value()) log_->Line(absl::StrCat("wrote ", *trace));
      if (const std::string missed = profiler_->Missed(); !missed.empty()) log_->Line(missed);
    }
    RETURN_IF_ERROR(FinishSaving());
    return stopped_by_ != 0 ? ConcludeStopped() : Conclude();
  }

  bool chief() const { return options_.launch.rank == 0; }
  // Processes on this machine, where the launcher has said so.
  int LocalSize() const { return std::max(1, options_.launch.local_world_size); }
  bool Complete() const { return state_.step() >= steps_.total; }

  // The processes of the training find each other, and the first one opens the run directory.
  absl::Status Meet() {
    SetThreads(config_, LocalSize());
    SetTf32(config_);
    ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(config_, options_.launch.local_rank));
    device_ = device;
    if (device_.is_cuda() && options_.launch.failure_fd.has_value() && device_.index() != options_.launch.local_rank) {
      return absl::FailedPreconditionError(absl::StrCat("process ", options_.launch.local_rank,
                                                        " of this machine has no GPU of its own: --processes takes one "
                                                        "for each"));
    }
    MakeCurrent(device_);
    ASSIGN_OR_RETURN(ranks_,
                     Ranks::Join(options_.launch, device_, OrDefault(config_.distributed().timeout_seconds(), 600.0)));
    if (chief()) {
      ASSIGN_OR_RETURN(directory_, RunDirectory::Open(options_.output, experiment_, options_.allow_changed_spec));
    } else {
      // Its log lies there, on a disk of its own perhaps.
      std::error_code error;
      std::filesystem::create_directories(options_.output, error);
    }
    const std::string spec = PrintExperiment(experiment_);
    ASSIGN_OR_RETURN(const std::string spec_of_chief, ranks_->BroadcastText(spec));
    if (spec != spec_of_chief) {
      return absl::FailedPreconditionError(
          absl::StrCat("rank ", ranks_->rank(), " was started with another experiment than rank 0"));
    }
    const std::string log = chief() ? "log.txt" : absl::StrCat("log-rank", ranks_->rank(), ".txt");
    ASSIGN_OR_RETURN(log_, RunLog::Open(absl::StrCat(options_.output, "/", log), /*quiet=*/!chief()));
    return absl::OkStatus();
  }

  ProcessPlace Place() const {
    return {.rank = ranks_->rank(),
            .world_size = ranks_->size(),
            .local_rank = options_.launch.local_rank,
            .local_size = LocalSize()};
  }

  absl::Status Build() {
    steps_ = CountSteps(config_, data_.train->size());
    if (chief()) {
      // Beside what is built meanwhile.
      loading_ = std::async(std::launch::async, [this] {
        return LoadNewestCheckpoint(options_.output, [this](const std::string& text) { log_->Line(text); });
      });
    }
    std::optional<UndrawnScope> undrawn;
    if (chief() && directory_->has_begun()) undrawn.emplace();
    ASSIGN_OR_RETURN(task_, BuildTask(experiment_, data_.train->class_names()));
    ASSIGN_OR_RETURN(best_metric_, BestMetric(config_, *task_), "trainer.best_metric");
    task_->To(device_);
    ASSIGN_OR_RETURN(parameters_, TrainedParameters(config_, *task_));
    ASSIGN_OR_RETURN(optimizer_, BuildOptimizer(experiment_, parameters_));
    undrawn.reset();
    if (experiment_.has_teacher()) {
      ASSIGN_OR_RETURN(teacher_, BuildTeacher(experiment_, data_.train->class_names(), device_));
    }
    if (config_.precision() == Trainer::FP16) loss_scaler_ = std::make_unique<LossScaler>();
    normalize_.emplace(experiment_.data(), device_);
    train_loader_ = data_.TrainLoader(experiment_, Place());
    val_loader_ = data_.EvalLoader(experiment_, Place());
    if (chief()) writer_.emplace(options_.output);
    return absl::OkStatus();
  }

  // The first process reads; what it has read the others get from it, so that they need not see its disk.
  absl::Status Resume() {
    std::optional<Checkpoint> checkpoint;
    if (chief()) {
      ASSIGN_OR_RETURN(checkpoint, loading_.get());
      if (directory_->has_begun() && !checkpoint.has_value()) {
        return absl::UnavailableError(
            absl::StrCat("the checkpoints of ", options_.output, " went while they were read"));
      }
      if (checkpoint.has_value()) {
        RETURN_IF_ERROR(CheckClasses(checkpoint->model));
        RETURN_IF_ERROR(LoadByName(std::move(checkpoint->model), ModelTensors(*task_)), "resume: the model");
        RETURN_IF_ERROR(LoadByName(std::move(checkpoint->objectives), ObjectiveTensors(*task_)),
                        "resume: the objectives");
        RETURN_IF_ERROR(optimizer_->LoadState(std::move(checkpoint->optimizer)), "resume");
      } else if (!config_.initial_checkpoint().empty()) {
        ASSIGN_OR_RETURN(const Safetensors weights, ReadWeights(config_.initial_checkpoint(), config_.initial_ema()));
        ASSIGN_OR_RETURN(const LoadReport report, LoadWeights(weights, *task_), config_.initial_checkpoint());
        log_->Line(absl::StrCat("start from ", config_.initial_checkpoint(),
                                config_.initial_ema() ? ", of its moving average" : "", ": ", report.ToString()));
      }
    }
    std::vector<RankTensor> shared;
    for (const NamedParameter& parameter : task_->Parameters()) shared.push_back({parameter.name, parameter.tensor});
    for (const NamedBuffer& buffer : task_->Buffers()) shared.push_back({buffer.name, buffer.tensor});
    RETURN_IF_ERROR(VerifyAndBroadcast(shared, *ranks_));
    if (ranks_->size() > 1) {
      std::vector<RankTensor> trained;
      for (const TrainedParameter& parameter : parameters_) trained.push_back({parameter.name, parameter.tensor});
      const double bucket_mebibytes = OrDefault(config_.distributed().bucket_mebibytes(), 25.0);
      ASSIGN_OR_RETURN(reducer_, GradientReducer::Create(std::move(trained), bucket_mebibytes, ranks_.get()));
    }
    // After the weights, so that a fresh average starts at them.
    if (config_.ema_decay() > 0) {
      ema_ = std::make_unique<Ema>(config_.ema_decay(), config_.ema_warmup(), task_->ModelParameters(),
                                   task_->ModelBuffers());
      // There is none where the average was asked for only since.
      if (checkpoint.has_value() && !checkpoint->ema.tensors.empty()) {
        RETURN_IF_ERROR(ema_->LoadState(std::move(checkpoint->ema)), "resume");
      }
    }
    step_.emplace(config_, StepParts{.normalize = *normalize_,
                                     .device = device_,
                                     .task = *task_,
                                     .parameters = parameters_,
                                     .optimizer = *optimizer_,
                                     .ema = ema_.get(),
                                     .loss_scaler = loss_scaler_.get(),
                                     .teacher = teacher_.get(),
                                     .reducer = reducer_.get(),
                                     .place = Place()});
    ASSIGN_OR_RETURN(const std::string state,
                     ranks_->BroadcastText(checkpoint.has_value() ? checkpoint->state.SerializeAsString() : ""));
    if (state.empty()) {
      state_.set_seed(config_.seed());
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(ranks_->Broadcast(TensorsOf(optimizer_->State())));
    if (ema_ != nullptr) RETURN_IF_ERROR(ranks_->Broadcast(TensorsOf(ema_->State())));
    return ResumeState(state);
  }

  // Whether the labels of the data still mean what the model has learnt.
  absl::Status CheckClasses(const Safetensors& model) const {
    const auto names = model.metadata.find(kClassNamesKey);
    if (names == model.metadata.end()) return absl::OkStatus();
    const std::vector<std::string> then = absl::StrSplit(names->second, '\n');
    const std::vector<std::string>& now = data_.train->class_names();
    const auto differ = std::mismatch(then.begin(), then.end(), now.begin(), now.end());
    if (differ.first == then.end() && differ.second == now.end()) return absl::OkStatus();
    const auto name = [](auto at, auto end) { return at == end ? "not there" : absl::StrCat("'", *at, "'"); };
    return absl::FailedPreconditionError(absl::StrCat(
        "the data set has other classes than when ", options_.output, " was begun: class ", differ.first - then.begin(),
        " was ", name(differ.first, then.end()), " and is ", name(differ.second, now.end()),
        "; another --output=DIR with --set trainer.initial_checkpoint=", options_.output,
        " starts anew from its weights"));
  }

  // Epochs and steps of other sizes than before: the epoch under way can't be ended, and those that are left have
  // another number of steps.
  absl::Status ChangeSizes() {
    const std::string change = absl::StrCat(
        WithThousands(state_.train_size()), " training images in batches of ", state_.batch_size(), " until here, and ",
        WithThousands(data_.train->size()), " in batches of ", config_.batch_size(), " now");
    if (!options_.allow_changed_spec) {
      return absl::FailedPreconditionError(
          absl::StrCat(change, ": ", options_.output,
                       " can't go on as it would have; with --allow-changed-spec it goes on with its "
                       "next epoch"));
    }
    if (state_.epoch_steps() > 0) state_.set_epoch(state_.epoch() + 1);
    state_.set_epoch_steps(0);
    log_->Line(absl::StrCat(change, "; going on with epoch ", state_.epoch()));
    return absl::OkStatus();
  }

  absl::Status ResumeState(const std::string& serialized) {
    if (!state_.ParseFromString(serialized)) return absl::InternalError("the state of rank 0 can't be read");
    resumed_at_ = saved_step_ = state_.step();
    latest_.insert(state_.latest().begin(), state_.latest().end());
    if (loss_scaler_ != nullptr && state_.loss_scale() > 0) {
      loss_scaler_->SetState({.scale = state_.loss_scale(), .growth_steps = state_.loss_scale_growth()});
    }
    // Of other processes than now the first one takes over what they had summed up.
    const bool same_world = state_.world_size() == ranks_->size();
    for (int rank = 0; rank < state_.window_size(); ++rank) {
      if (same_world ? rank != ranks_->rank() : !chief()) continue;
      for (const MetricSum& sum : state_.window(rank).sums()) {
        metrics_.Add(sum.name(), at::scalar_tensor(sum.sum(), at::kDouble), sum.count());
      }
    }
    state_.clear_window();
    if (state_.train_size() != data_.train->size() || state_.batch_size() != config_.batch_size()) {
      RETURN_IF_ERROR(ChangeSizes());
    }
    first_step_ = state_.step() - state_.epoch_steps() - state_.epoch() * steps_.per_epoch;
    steps_.total = first_step_ + config_.epochs() * steps_.per_epoch;
    if (config_.max_steps() > 0) steps_.total = std::min<int64_t>(steps_.total, config_.max_steps());
    steps_.total = std::max(steps_.total, state_.step());
    if (state_.seed() != config_.seed()) {
      log_->Line(absl::StrCat("the seed was ", state_.seed(), " until here, and is ", config_.seed(), " now"));
      state_.set_seed(config_.seed());
    }
    if (state_.world_size() != ranks_->size()) {
      log_->Line(absl::StrCat("processes until here: ", state_.world_size(), ", now: ", ranks_->size()));
    }
    log_->Line(absl::StrCat("resumed at step ", WithThousands(resumed_at_), " of ", WithThousands(steps_.total)));
    return absl::OkStatus();
  }

  absl::Status OpenSinks() {
    if (!chief()) return absl::OkStatus();
    const SinkContext context{.run_directory = options_.output,
                              .resume_step = resumed_at_,
                              .resume_validated = state_.validated_step() == state_.step()};
    std::vector<google::protobuf::Any> configs(config_.sinks().begin(), config_.sinks().end());
    if (configs.empty()) {
      for (const PluginInfo& info : RegisteredPlugins(Sink::kKind)) {
        configs.emplace_back().set_type_url("type.googleapis.com/" + info.name);
      }
    }
    for (const google::protobuf::Any& config : configs) {
      ASSIGN_OR_RETURN(std::unique_ptr<Sink> sink, Registry<Sink>::Create(config, context), AnyTypeName(config));
      sinks_.push_back(std::move(sink));
    }
    return absl::OkStatus();
  }

  void Announce() {
    std::string line = absl::StrCat("Graticule ", kVersion, ", LibTorch ", TORCH_VERSION, ", ", device_.str(), ", ",
                                    at::get_num_threads(), " threads, ", PrecisionName(config_.precision()));
    if (AutocastDtype(config_.precision()).has_value()) line += " autocast";
    if (ranks_->size() > 1) {
      absl::StrAppend(&line, ", ", ranks_->size(), " processes (", options_.launch.launcher, ")");
    }
    log_->Line(line);
    log_->Line(absl::StrCat(WithThousands(data_.train->size()), " training and ", WithThousands(data_.val->size()),
                            " validation images of ", data_.train->class_names().size(), " classes, ",
                            data_.image_size.height, "×", data_.image_size.width, "; batch ", config_.batch_size(),
                            ", ", WithThousands(steps_.per_epoch), " steps an epoch"));
    int64_t model_parameters = 0, trained = 0;
    for (const NamedParameter& parameter : task_->ModelParameters()) model_parameters += parameter.tensor.numel();
    for (const TrainedParameter& parameter : parameters_) trained += parameter.tensor.numel();
    line = absl::StrCat("parameters: ", WithThousands(model_parameters), ", and of objectives ",
                        WithThousands(task_->ParameterCount() - model_parameters));
    if (trained < task_->ParameterCount()) absl::StrAppend(&line, "; trained: ", WithThousands(trained));
    log_->Line(line);
    if (experiment_.has_teacher()) log_->Line(absl::StrCat("distilled from ", experiment_.teacher().spec()));
  }

  void StartWatchdog() {
    const double minutes = config_.guard().stall_minutes();
    if (minutes == 0) return;
    watchdog_.emplace(minutes, log_->path(), [this](const std::string& report) {
      log_->Detail(report);
      ranks_->ReportFailure(absl::StrCat("it was without progress for ", config_.guard().stall_minutes(), " minutes"));
    });
  }

  // Tells whoever watches that the training goes on, and with what.
  void Beat(const char* phase) {
    if (watchdog_.has_value()) watchdog_->Beat();
    ranks_->SetProgress(state_.step(), phase);
  }

  absl::Status RunEpoch() {
    task_->SetTraining(true);
    train_loader_->Start(state_.epoch(), state_.epoch_steps() * AccumulationSteps(config_));
    // What the epoch before has left since its last line of the log is not this one's.
    if (state_.epoch_steps() == 0) metrics_.Clear();
    StartClock();
    while (state_.epoch_steps() < steps_.per_epoch && !Complete()) {
      RETURN_IF_ERROR(Step());
      if (state_.step() % OrDefault(config_.log_interval(), 50) == 0 || Complete()) {
        RETURN_IF_ERROR(Log());
      } else {
        ShowProgress();
      }
      ASSIGN_OR_RETURN(const Wishes wishes, ExchangeWishes());
      ReportSaves();
      if (config_.on_save_error() == Trainer::STOP) RETURN_IF_ERROR(save_error_);
      stopped_by_ = static_cast<int>(wishes[kStop]);
      const bool epoch_is_over = state_.epoch_steps() == steps_.per_epoch;
      if (epoch_is_over) {
        state_.set_epoch(state_.epoch() + 1);
        state_.set_epoch_steps(0);
        metrics_.Clear();
      }
      if (stopped_by_ != 0) return Save();
      // After an epoch's last step this waits until it is validated.
      const bool by_steps = config_.checkpoint_steps() > 0 && state_.step() % config_.checkpoint_steps() == 0;
      save_wanted_ = save_wanted_ || by_steps || wishes[kSave] != 0;
      if (epoch_is_over) break;
      if (save_wanted_ && !Complete()) RETURN_IF_ERROR(Save());
    }
    return FinishEpoch();
  }

  // What follows an epoch's last step, or the training's, unless it has been done.
  absl::Status FinishEpoch() {
    const bool validate = (Complete() || state_.epoch() % OrDefault(config_.eval_interval(), 1) == 0) &&
                          state_.validated_step() != state_.step();
    if (validate) {
      const absl::Status validated = Validate();
      // Broken validation images must not cost an epoch.
      if (!validated.ok() || stopped_by_ != 0) RETURN_IF_ERROR(Save());
      RETURN_IF_ERROR(validated);
      if (stopped_by_ != 0) return absl::OkStatus();
    }
    const bool best = validate && state_.best_step() == state_.step();
    // Of a checkpoint that knows nothing of the validation it would be done, and recorded, once more.
    const bool stale = validate && saved_step_ == state_.step();
    const bool due = Complete() || best || stale || state_.epoch() % OrDefault(config_.checkpoint_interval(), 1) == 0;
    if ((due || save_wanted_) && (validate || saved_step_ != state_.step())) RETURN_IF_ERROR(Save());
    return absl::OkStatus();
  }

  // One optimizer step.
  absl::Status Step() {
    const int64_t step = state_.step();
    const std::string context = absl::StrCat("step ", step);
    const double progress = static_cast<double>(step) / steps_.total;
    if (profiler_.has_value()) RETURN_IF_ERROR(profiler_->BeginStep(step));
    Beat("data");
    Metrics of_step;
    std::vector<Batch> batches;
    std::vector<at::Tensor> losses;
    for (int part = 0; part < AccumulationSteps(config_); ++part) {
      std::optional<Batch> batch;
      {
        const ProfiledRange range("data");
        ASSIGN_OR_RETURN(batch, train_loader_->Next(), context);
      }
      if (!batch.has_value()) return absl::InternalError("the loader's epoch ended before its last batch");
      ranks_->SetProgress(step, "forward and backward");
      try {
        const TaskOutput output = step_->Forward(*batch, step, part, progress);
        RETURN_IF_ERROR(step_->Backward(output.loss, part), context);
        of_step.Add("train/", output.metrics);
        losses.push_back(output.loss.detach());
      } catch (...) {
        return CurrentExceptionToStatus(context + ": forward and backward");
      }
      images_ += batch->size();
      batches.push_back(*std::move(batch));
    }
    state_.set_images_seen(state_.images_seen() + config_.batch_size());
    TrainingStep::Outcome outcome;
    const double loss_scale = loss_scaler_ != nullptr ? loss_scaler_->GetState().scale : 1;
    try {
      learning_rate_ = schedule_->LearningRate(step - first_step_);
      const bool last = state_.epoch_steps() + 1 == steps_.per_epoch || step + 1 == steps_.total;
      outcome = step_->Update(learning_rate_, step, last && chief() ? &gradient_norms_ : nullptr);
    } catch (...) {
      return CurrentExceptionToStatus(context + ": optimizer");
    }
    if (profiler_.has_value()) {
      ASSIGN_OR_RETURN(const std::optional<std::string> trace, profiler_->EndStep(step));
      if (trace.has_value()) log_->Line(absl::StrCat("wrote ", *trace));
    }
    state_.set_step(step + 1);
    state_.set_epoch_steps(state_.epoch_steps() + 1);
    if (!outcome.finite()) return SkipOrStop(batches, losses, loss_scale, outcome.gradient_norm, progress);
    state_.set_skipped_in_a_row(0);
    of_step.Add("grad_norm", at::scalar_tensor(outcome.gradient_norm, at::kDouble), 1);
    metrics_.Add("", of_step);
    return absl::OkStatus();
  }

  // After a step whose gradients were not finite and were thrown away.
  absl::Status SkipOrStop(const std::vector<Batch>& batches, const std::vector<at::Tensor>& losses, double loss_scale,
                          double norm, double progress) {
    const int64_t step = state_.step() - 1;
    // What is not finite may be what an aborted collective has left.
    RETURN_IF_ERROR(ranks_->Failure());
    state_.set_skipped_steps(state_.skipped_steps() + 1);
    double loss = 0;
    for (const at::Tensor& part : losses) loss += part.item<double>() / static_cast<double>(losses.size());
    if (loss_scaler_ != nullptr) {
      at::Tensor lost = at::scalar_tensor(std::isfinite(loss) ? 0 : 1, at::kLong);
      RETURN_IF_ERROR(ranks_->Sum(lost));
      // The loss scale was too large, which is how it is found out.
      if (lost.item<int64_t>() == 0 && loss_scaler_->Check().ok()) return absl::OkStatus();
    }
    state_.set_skipped_in_a_row(state_.skipped_in_a_row() + 1);

    const auto diagnosis = FindNonFinite(
        *task_, batches, [&](int part) { return step_->Forward(batches[part], step, part, progress).loss; },
        loss_scale);
    std::string cause(diagnosis.status().message());
    if (diagnosis.ok())
      cause = diagnosis->cause.empty() ? "all is finite here when it is done again" : diagnosis->cause;

    Dump dump{.batches = batches, .model = ModelWithClassNames(), .objectives = ObjectiveTensors(*task_)};
    dump.state.set_step(step);
    dump.state.set_rank(ranks_->rank());
    dump.state.set_world_size(ranks_->size());
    dump.state.set_seed(config_.seed());
    dump.state.set_progress(progress);
    dump.state.set_learning_rate(learning_rate_);
    dump.state.set_precision(OrDefault(config_.precision(), Trainer::FP32));
    if (loss_scaler_ != nullptr) dump.state.set_loss_scale(loss_scale);
    dump.state.set_loss(loss);
    dump.state.set_gradient_norm(norm);
    dump.state.set_cause(cause);
    for (const Batch& batch : batches) {
      for (const int64_t index : batch.indices) dump.state.add_samples(data_.train->SampleName(index));
    }
    const auto path = WriteDump(options_.output, dump);
    absl::StrAppend(&cause, path.ok() ? absl::StrCat("; look at it by ", options_.command, " replay ", *path)
                                      : absl::StrCat("; ", path.status().message()));
    // Each process has looked at its own part of the batch.
    ASSIGN_OR_RETURN(const std::vector<std::string> causes, ranks_->GatherTexts(cause));
    std::string message = absl::StrFormat("step %d is not finite (loss %g, gradient norm %g, learning rate %g)", step,
                                          loss, norm, learning_rate_);
    for (size_t rank = 0; rank < causes.size(); ++rank) {
      absl::StrAppend(&message, causes.size() > 1 ? absl::StrCat("; rank ", rank, ": ") : ": ", causes[rank]);
    }
    if (loss_scaler_ != nullptr) RETURN_IF_ERROR(loss_scaler_->Check(), message);
    if (config_.guard().on_non_finite() != Guard::SKIP) return absl::FailedPreconditionError(message);
    const int most = OrDefault(config_.guard().max_skipped(), 10);
    if (state_.skipped_in_a_row() >= most) {
      return absl::FailedPreconditionError(
          absl::StrCat(message, "; these are ", state_.skipped_in_a_row(), " steps one after the other"));
    }
    log_->Line(absl::StrCat("skipped: ", message));
    return absl::OkStatus();
  }

  // What a process wants of all of them. They must do it after the same step, so they tell each other after each one,
  // and act on it one later: nobody waits.
  enum : size_t { kStop, kSave, kWishes };
  using Wishes = std::array<int64_t, kWishes>;

  absl::StatusOr<Wishes> ExchangeWishes() {
    Wishes mine = {};
    mine[kStop] = StopSignal::Requested();
    const double minutes = config_.checkpoint_minutes();
    mine[kSave] = chief() && minutes > 0 && Now() - last_save_ >= 60 * minutes;
    if (ranks_->size() == 1) return mine;
    Wishes agreed = {};
    if (exchange_ != nullptr) {
      ASSIGN_OR_RETURN(const std::vector<int64_t> greatest, exchange_->Wait());
      exchange_.reset();
      std::copy(greatest.begin(), greatest.end(), agreed.begin());
    }
    if (agreed[kStop] == 0 && !Complete()) {
      ASSIGN_OR_RETURN(exchange_, ranks_->StartMax({mine.begin(), mine.end()}));
    }
    return agreed;
  }

  void StartClock() {
    images_ = 0;
    interval_start_ = Now();
    interval_wait_ = train_loader_->wait_seconds();
  }

  double Epoch() const { return state_.epoch() + static_cast<double>(state_.epoch_steps()) / steps_.per_epoch; }

  Progress CurrentProgress() {
    const double elapsed = std::max(1e-9, Now() - interval_start_);
    Progress progress{.step = state_.step(), .total_steps = steps_.total, .epoch = Epoch(), .epochs = config_.epochs()};
    progress.memory = PeakMemory(device_);
    progress.values = latest_;
    progress.values["lr"] = learning_rate_;
    progress.images_per_second = images_ * ranks_->size() / elapsed;
    progress.data_wait = (train_loader_->wait_seconds() - interval_wait_) / elapsed;
    progress.seconds_left =
        (steps_.total - state_.step()) * config_.batch_size() / std::max(1e-9, progress.images_per_second);
    return progress;
  }

  // Between lines of the log: what costs no look at the device.
  void ShowProgress() {
    if (!log_->has_terminal() || Now() - shown_ < 0.2) return;
    shown_ = Now();
    log_->Progress(FormatProgress(CurrentProgress(), log_->columns()));
  }

  absl::Status Log() {
    ASSIGN_OR_RETURN(const Metrics all, SumMetrics(metrics_, *ranks_));
    metrics_.Clear();
    std::map<std::string, double> values = all.Means();
    values["lr"] = learning_rate_;
    if (loss_scaler_ != nullptr) values["loss_scale"] = loss_scaler_->GetState().scale;
    if (state_.skipped_steps() > 0) values["skipped_steps"] = static_cast<double>(state_.skipped_steps());
    for (const auto& [name, value] : values) latest_[name] = value;
    const Progress progress = CurrentProgress();
    values["images_per_second"] = progress.images_per_second;
    values["data_wait"] = progress.data_wait;
    RETURN_IF_ERROR(Record(values));
    log_->Detail(FormatProgress(progress));
    log_->Progress(FormatProgress(progress, log_->columns()));
    StartClock();
    return absl::OkStatus();
  }

  absl::Status Record(const std::map<std::string, double>& values) {
    const MetricsRecord record{.step = state_.step(), .epoch = Epoch(), .wall_time = Now(), .values = values};
    return WriteToSinks([&](Sink& sink) { return sink.Write(record); });
  }

  // A sink keeps what it can't write, and tries again with the next record.
  absl::Status WriteToSinks(const std::function<absl::Status(Sink&)>& write) {
    absl::Status all;
    for (const auto& sink : sinks_) {
      all.Update(write(*sink));
      all.Update(sink->Flush());
    }
    if (!all.ok() && sink_error_.ok()) log_->Line(absl::StrCat("metrics can't be written: ", all.message()));
    if (all.ok() && !sink_error_.ok()) log_->Line("metrics can be written again");
    sink_error_ = all;
    return config_.on_save_error() == Trainer::STOP ? sink_error_ : absl::OkStatus();
  }

  // Means over the validation images, of which each process has measured its part.
  absl::StatusOr<std::map<std::string, double>> EvaluateModel() {
    const auto on_batch = [this](const Batch& batch) {
      Beat("validation");
      if (!example_.images.defined()) example_ = batch;
      if (StopSignal::Requested() == 0) return !ranks_->Asked(kBreakOff);
      ranks_->Ask(kBreakOff);
      return false;
    };
    ASSIGN_OR_RETURN(const Metrics mine,
                     Evaluate(*task_, *val_loader_, *normalize_, config_.precision(), device_, on_batch));
    // Asked to stop, nobody waits for the rest: the next process does it anew.
    ASSIGN_OR_RETURN(const auto asked, ranks_->StartMax({StopSignal::Requested()}));
    ASSIGN_OR_RETURN(const std::vector<int64_t> stop, asked->Wait());
    stopped_by_ = static_cast<int>(stop[0]);
    if (stopped_by_ != 0) return std::map<std::string, double>();
    ASSIGN_OR_RETURN(const Metrics all, SumMetrics(mine, *ranks_));
    return all.Means();
  }

  absl::Status Validate() {
    const ProfiledRange range("validation");
    // Statistics of batches are each process's own; those of the first one count.
    std::vector<at::Tensor> buffers;
    for (const NamedBuffer& buffer : task_->Buffers()) buffers.push_back(buffer.tensor);
    RETURN_IF_ERROR(ranks_->Broadcast(buffers));
    std::map<std::string, double> values;
    ASSIGN_OR_RETURN(const auto metrics, EvaluateModel(), "validation");
    if (stopped_by_ != 0) return absl::OkStatus();
    for (const auto& [name, value] : metrics) values[kValidation + name] = value;
    if (ema_ != nullptr) {
      RETURN_IF_ERROR(ranks_->Broadcast(TensorsOf(ema_->State())));
      ema_->Swap();
      const auto averaged = EvaluateModel();
      ema_->Swap();
      RETURN_IF_ERROR(averaged.status(), "validation of the moving average");
      if (stopped_by_ != 0) return absl::OkStatus();
      for (const auto& [name, value] : *averaged) values[kValidationOfEma + name] = value;
    }
    for (const auto& [name, value] : values) latest_[name] = value;
    RETURN_IF_ERROR(Record(values));
    if (state_.validated_step() == 0) {
      // Now, not when the training is over and fails for it.
      for (const std::string& line : UnknownMetrics(experiment_, latest_)) log_->Line(line);
    }

    const std::string first = task_->EvaluationMetrics().front(), headline = kValidation + first;
    std::string line = absl::StrFormat("epoch %d: %s %.2f %%, loss %.4g", state_.epoch(), headline, values[headline],
                                       values["val/loss"]);
    if (ema_ != nullptr) absl::StrAppendFormat(&line, ", moving average %.2f %%", values[kValidationOfEma + first]);
    const bool less_is_better = absl::EndsWith(best_metric_, "loss");
    const double value = values.at(best_metric_), best = state_.best_value();
    const bool first_one = !state_.has_best_value() || state_.best_metric() != best_metric_;
    if (std::isfinite(value) && (first_one || (less_is_better ? value < best : value > best))) {
      state_.set_best_metric(best_metric_);
      state_.set_best_value(value);
      state_.set_best_step(state_.step());
      line += best_metric_ == headline ? ", the best so far" : absl::StrCat(", the best ", best_metric_, " so far");
    }
    state_.set_validated_step(state_.step());
    log_->Line(line);
    return RecordMedia();
  }

  // Norms of weights and gradients, and where the labels say that the patches of some validation images come from.
  absl::Status RecordMedia() {
    // Of the validations in each twentieth of the training the first one: pictures are large.
    const int64_t before = state_.step() - OrDefault(config_.eval_interval(), 1) * steps_.per_epoch;
    const auto twentieth = [&](int64_t step) { return 20 * step / steps_.total; };
    if (!chief() || (before > 0 && twentieth(before) == twentieth(state_.step()))) return absl::OkStatus();
    MediaRecord record{.step = state_.step(), .wall_time = Now()};
    record.histograms["norm/weights"] = ToDoubles(NormsOfWeights());
    if (gradient_norms_.defined()) record.histograms["norm/gradients"] = ToDoubles(gradient_norms_);
    ASSIGN_OR_RETURN(record.images, DrawLabels());
    return WriteToSinks([&](Sink& sink) { return sink.WriteMedia(record); });
  }

  absl::StatusOr<std::map<std::string, std::string>> DrawLabels() {
    constexpr int64_t kImages = 4;
    std::map<std::string, std::string> pictures;
    const at::Tensor images = example_.images.narrow(0, 0, std::min(kImages, example_.size()));
    const c10::NoGradGuard no_grad;
    std::map<std::string, at::Tensor> predicted;
    task_->SetTraining(false);
    try {
      predicted = task_->PredictedCells((*normalize_)(images));
    } catch (...) {
      return CurrentExceptionToStatus("pictures of the labels");
    }
    task_->SetTraining(true);
    for (const auto& [name, cells] : predicted) {
      ASSIGN_OR_RETURN(pictures["cells/" + name], EncodePng(DrawCells(images, *task_->grid(), cells)));
    }
    return pictures;
  }

  at::Tensor NormsOfWeights() const {
    const c10::NoGradGuard no_grad;
    std::vector<at::Tensor> weights;
    for (const TrainedParameter& parameter : parameters_) weights.push_back(parameter.tensor);
    return at::stack(at::_foreach_norm(weights, 2));
  }

  Safetensors ModelWithClassNames() const {
    Safetensors model = ModelTensors(*task_);
    model.metadata[kClassNamesKey] = absl::StrJoin(data_.train->class_names(), "\n");
    return model;
  }

  // Weights that are lost must not become the newest checkpoint.
  absl::Status CheckWeights() {
    if (std::isfinite(NormsOfWeights().norm().item<double>())) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("weights are not finite after step ", state_.step(),
                                                      " (learning rate ", learning_rate_,
                                                      "), so no checkpoint is written; try a smaller learning rate"));
  }

  // In all processes at the same step; the first one writes.
  absl::Status Save() {
    const ProfiledRange range("checkpoint");
    save_wanted_ = false;
    RETURN_IF_ERROR(CheckWeights());
    RankWindow window;
    for (const auto& [name, sum] : metrics_.Sums()) {
      MetricSum* entry = window.add_sums();
      entry->set_name(name);
      entry->set_sum(sum.first);
      entry->set_count(sum.second);
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> windows, ranks_->GatherTexts(window.SerializeAsString()));
    saved_step_ = state_.step();
    last_save_ = Now();
    if (!chief()) return absl::OkStatus();

    Checkpoint checkpoint;
    checkpoint.state = state_;
    checkpoint.state.set_graticule_version(kVersion);
    checkpoint.state.set_torch_version(TORCH_VERSION);
    checkpoint.state.set_world_size(ranks_->size());
    checkpoint.state.set_train_size(data_.train->size());
    checkpoint.state.set_batch_size(config_.batch_size());
    checkpoint.state.set_seconds(state_.seconds() + Now() - start_);
    for (const std::string& text : windows) checkpoint.state.add_window()->ParseFromString(text);
    checkpoint.state.mutable_latest()->clear();
    checkpoint.state.mutable_latest()->insert(latest_.begin(), latest_.end());
    if (loss_scaler_ != nullptr) {
      checkpoint.state.set_loss_scale(loss_scaler_->GetState().scale);
      checkpoint.state.set_loss_scale_growth(loss_scaler_->GetState().growth_steps);
    }
    checkpoint.model = ModelWithClassNames();
    checkpoint.objectives = ObjectiveTensors(*task_);
    if (ema_ != nullptr) checkpoint.ema = ema_->State();
    checkpoint.optimizer = optimizer_->State();
    Retention retention{.keep = OrDefault(config_.keep_checkpoints(), 2), .every = config_.keep_every_steps()};
    if (state_.has_best_value()) retention.best = state_.best_step();
    Beat("checkpoint");
    return writer_->Save(checkpoint, retention);
  }

  // Says what became of the saves since.
  void ReportSaves() {
    if (!writer_.has_value()) return;
    while (const auto result = writer_->Finished()) {
      save_error_ = result->saved;
      if (result->saved.ok() && result->pruned.ok()) {
        log_->Detail(result->ToString());
      } else {
        log_->Line(result->ToString());
      }
    }
  }

  absl::Status FinishSaving() {
    if (!writer_.has_value()) return absl::OkStatus();
    const absl::Status saved = writer_->Wait();
    ReportSaves();
    return saved;
  }

  absl::Status ConcludeStopped() {
    log_->Progress("");
    log_->Line(absl::StrCat("stopped by ", SignalName(stopped_by_), " at step ", WithThousands(state_.step()), " of ",
                            WithThousands(steps_.total), ", and saved; the same command goes on from there"));
    return Annotate(sink_error_, "the last metrics are lost");
  }

  absl::Status Conclude() {
    if (!chief()) return absl::OkStatus();
    log_->Progress("");
    if (state_.step() > resumed_at_) {
      log_->Line(absl::StrCat("trained ", WithThousands(state_.step() - resumed_at_), " steps in ",
                              FormatSeconds(Now() - training_start_), ", validation and checkpoints included"));
    } else {
      log_->Line("the run was complete already; another --output=DIR starts a new one");
    }
    if (state_.has_best_value()) {
      log_->Line(absl::StrFormat("best %s %.4g at step %s", state_.best_metric(), state_.best_value(),
                                 WithThousands(state_.best_step())));
    }
    RETURN_IF_ERROR(sink_error_, "the last metrics are lost");
    FieldErrors unmet;
    for (const Expectation& expectation : CheckExpectations(experiment_, latest_)) {
      log_->Line(expectation.line);
      if (!expectation.holds) unmet.Add("", expectation.line);
    }
    const std::string& run = options_.output;
    std::string next =
        absl::StrCat(options_.command, " eval ", run, "\n  ", options_.command, " predict ", run, " --images=YOUR.png");
    const std::vector<std::string> contents = directory_->Contents();
    if (contents.back() == "TensorBoard events") absl::StrAppend(&next, "\n  tensorboard --logdir=", run);
    log_->Line(
        absl::StrCat("\nEverything is in ", run, ":\n  ", absl::StrJoin(contents, ", "), "\nTry next:\n  ", next));
    return unmet.empty() ? absl::OkStatus() : absl::FailedPreconditionError(unmet.ToStatus().message());
  }

  // run.json: of a process that is killed it goes on saying that it runs.
  void Summarise(const std::string& exit_reason) {
    if (!chief()) return;
    RunSummary summary{.name = experiment_.name(),
                       .exit_reason = exit_reason,
                       .step = state_.step(),
                       .total_steps = steps_.total,
                       .resumed_at = resumed_at_,
                       .epoch = steps_.per_epoch > 0 ? Epoch() : 0,
                       .images_seen = state_.images_seen(),
                       .skipped_steps = state_.skipped_steps(),
                       .last = latest_,
                       .start_time = start_,
                       .end_time = Now(),
                       .run_seconds = state_.seconds() + Now() - start_,
                       .device = device_.str(),
                       .threads = at::get_num_threads(),
                       .world_size = ranks_->size(),
                       .peak_memory = PeakMemory(device_)};
    if (state_.has_best_value()) {
      summary.best = {.metric = state_.best_metric(), .value = state_.best_value(), .step = state_.best_step()};
    }
    if (const absl::Status written = WriteRunSummary(summary, options_.output); !written.ok()) {
      log_->Line(std::string(written.message()));
    }
  }

  const Experiment experiment_;
  const Trainer& config_;
  const TrainOptions options_;
  DataParts data_;
  c10::Device device_ = c10::kCPU;
  std::unique_ptr<Ranks> ranks_;
  std::unique_ptr<RunDirectory> directory_;  // of the first process
  std::unique_ptr<RunLog> log_;
  std::future<absl::StatusOr<std::optional<Checkpoint>>> loading_;  // of the first process
  Steps steps_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<TeacherModel> teacher_;
  std::vector<TrainedParameter> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Schedule> schedule_;
  std::unique_ptr<Ema> ema_;
  std::unique_ptr<LossScaler> loss_scaler_;
  std::unique_ptr<GradientReducer> reducer_;
  std::optional<Normalizer> normalize_;
  std::optional<TrainingStep> step_;
  std::unique_ptr<Loader> train_loader_, val_loader_;
  std::vector<std::unique_ptr<Sink>> sinks_;  // of the first process
  std::optional<CheckpointWriter> writer_;    // of the first process
  std::optional<StepProfiler> profiler_;
  std::optional<StopSignal> stop_signal_;
  std::optional<Watchdog> watchdog_;

  TrainState state_;
  // Where the first epoch would have begun if all had the size that they have now; 0 if it never changed.
  int64_t first_step_ = 0;
  std::string best_metric_;
  bool ran_ = false;         // what there was to read has been read
  bool begun_ = false;       // and there was something to train or validate
  absl::Status sink_error_;  // of the last record
  int64_t resumed_at_ = 0;
  int64_t saved_step_ = 0;                   // of the newest checkpoint that was asked for
  bool save_wanted_ = false;                 // at the next step where it can be done
  absl::Status save_error_;                  // of the last save that ended
  std::unique_ptr<Ranks::Maxima> exchange_;  // of wishes, under way
  int stopped_by_ = 0;                       // a signal
  double learning_rate_ = 0;
  at::Tensor gradient_norms_;  // of each parameter, in the step before a validation
  Batch example_;              // the first one of the validation
  double start_ = 0;           // of this process
  double training_start_ = 0;  // of its first step
  double last_save_ = 0;
  std::map<std::string, double> latest_;  // last value of every metric

  // Since the last line of the log or the start of the epoch, whichever is later. The sums are of this process.
  Metrics metrics_;
  int64_t images_ = 0;
  double interval_start_ = 0;
  double interval_wait_ = 0;
  double shown_ = 0;
};

}  // namespace

absl::Status Train(const Experiment& experiment, DataParts data, const TrainOptions& options) {
  return Training(experiment, std::move(data), options).Run();
}

}  // namespace graticule
