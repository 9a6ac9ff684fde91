#include "trainer/trainer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ATen/Parallel.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "plugin/file.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "plugin/version.h"
#include "torch/headeronly/version.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
#include "trainer/ema.h"
#include "trainer/evaluate.h"
#include "trainer/parts.h"
#include "trainer/progress.h"
#include "trainer/run_log.h"
#include "trainer/sinks/sink.h"
#include "trainer/step.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

double Now() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

int OrDefault(int value, int otherwise) { return value > 0 ? value : otherwise; }

// The first lines in which two texts differ, for a message.
std::string FirstDifference(const std::string& before, const std::string& now) {
  const std::vector<std::string> a = absl::StrSplit(before, '\n'), b = absl::StrSplit(now, '\n');
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string x = i < a.size() ? a[i] : "", y = i < b.size() ? b[i] : "";
    if (x != y) return absl::StrCat("line ", i + 1, " was '", x, "' and is '", y, "'");
  }
  return "nothing";
}

class Training {
 public:
  Training(const Experiment& experiment, const TrainOptions& options)
      : experiment_(experiment), config_(experiment_.trainer()), options_(options) {}

  absl::Status Run() {
    RETURN_IF_ERROR(PrepareDirectory());
    RETURN_IF_ERROR(Build());
    RETURN_IF_ERROR(Resume());
    // Only now: a spec that turns out not to fit the run must not replace the one that did.
    if (!spec_is_written_) RETURN_IF_ERROR(WriteFileAtomically(spec_path_, spec_text_));
    step_.emplace(config_, *normalize_, device_, *task_, *optimizer_, ema_.get());
    RETURN_IF_ERROR(OpenSinks());
    Announce();
    const double start = Now();
    while (state_.step() < steps_.total) RETURN_IF_ERROR(RunEpoch());
    seconds_ = Now() - start;
    if (val_.empty()) RETURN_IF_ERROR(Validate());
    return Conclude();
  }

 private:
  absl::Status PrepareDirectory() {
    std::error_code error;
    fs::create_directories(options_.output, error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot create ", options_.output, ": ", error.message()));

    RETURN_IF_ERROR(Lock());
    const auto before = ReadFile(spec_path_);
    spec_is_written_ = before.ok() && *before == spec_text_;
    if (before.ok() && !spec_is_written_ && !options_.allow_changed_spec &&
        fs::exists(options_.output + "/checkpoints/last", error)) {
      return absl::FailedPreconditionError(
          absl::StrCat(options_.output, " holds a run of another spec (", FirstDifference(*before, spec_text_),
                       "); give another --output=DIR, or go on with it by --allow-changed-spec"));
    }
    ASSIGN_OR_RETURN(log_, RunLog::Open(options_.output + "/log.txt"));
    return absl::OkStatus();
  }

  // Two processes in one run directory would write over each other's files. The lock ends with the process.
  absl::Status Lock() {
    lock_.reset(new int(open(options_.output.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
    if (*lock_ < 0) return ErrnoStatus("open", options_.output);
    if (flock(*lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(absl::StrCat("another process is training into ", options_.output));
    }
    return absl::OkStatus();
  }

  absl::Status Build() {
    SetThreads(config_);
    ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(config_));
    device_ = device;
    ASSIGN_OR_RETURN(data_, BuildData(experiment_));
    steps_ = CountSteps(config_, data_.train->size());
    ASSIGN_OR_RETURN(task_, BuildTask(experiment_, data_.train->class_names()));
    task_->To(device_);
    ASSIGN_OR_RETURN(optimizer_, BuildOptimizer(experiment_, *task_));
    ASSIGN_OR_RETURN(schedule_, BuildSchedule(experiment_, steps_));
    normalize_.emplace(experiment_.data(), device_);
    train_loader_ = data_.TrainLoader(experiment_);
    val_loader_ = data_.EvalLoader(experiment_);
    return absl::OkStatus();
  }

  absl::Status Resume() {
    ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint,
                     LoadNewestCheckpoint(options_.output, [&](const std::string& text) { log_->Line(text); }));
    if (checkpoint.has_value()) {
      RETURN_IF_ERROR(CopyByName(checkpoint->model, ModelTensors(*task_)), "resume: the model");
    } else if (!config_.initial_checkpoint().empty()) {
      ASSIGN_OR_RETURN(const Safetensors weights, ReadWeights(config_.initial_checkpoint(), /*ema=*/true));
      ASSIGN_OR_RETURN(const LoadReport report, LoadWeights(weights, *task_), config_.initial_checkpoint());
      log_->Line(absl::StrCat("start from ", config_.initial_checkpoint(), ": ", report.ToString()));
    }
    // After the weights, so that a fresh average starts at them.
    if (config_.ema_decay() > 0) {
      ema_ = std::make_unique<Ema>(config_.ema_decay(), config_.ema_warmup(), task_->ModelParameters(),
                                   task_->ModelBuffers());
    }
    if (!checkpoint.has_value()) {
      state_.set_seed(config_.seed());
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(CopyByName(checkpoint->objectives, ObjectiveTensors(*task_)), "resume: the objectives");
    RETURN_IF_ERROR(optimizer_->LoadState(checkpoint->optimizer), "resume");
    // There is none where the average was asked for only since.
    if (ema_ != nullptr && !checkpoint->ema.tensors.empty()) {
      RETURN_IF_ERROR(ema_->LoadState(checkpoint->ema), "resume");
    }
    state_ = checkpoint->state;
    resumed_at_ = state_.step();
    const int accumulation = AccumulationSteps(config_);
    if (state_.batches_done() > steps_.per_epoch * accumulation || state_.batches_done() % accumulation != 0) {
      log_->Line("epochs have another length now; going on with the next one");
      state_.set_epoch(state_.epoch() + 1);
      state_.set_batches_done(0);
    }
    log_->Line(absl::StrCat("resumed at step ", WithThousands(resumed_at_), " of ", WithThousands(steps_.total)));
    return absl::OkStatus();
  }

  absl::Status OpenSinks() {
    const SinkContext context{.run_directory = options_.output, .resume_step = resumed_at_};
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
    log_->Line(absl::StrCat("Graticule ", kVersion, ", LibTorch ", TORCH_VERSION, ", ", device_.str(), ", ",
                            at::get_num_threads(), " threads, ",
                            config_.precision() == Trainer::BF16 ? "bf16 autocast" : "fp32"));
    log_->Line(absl::StrCat(WithThousands(data_.train->size()), " training and ", WithThousands(data_.val->size()),
                            " validation images of ", data_.train->class_names().size(), " classes, ",
                            data_.image_size.height, "×", data_.image_size.width, "; batch ", config_.batch_size(),
                            ", ", WithThousands(steps_.per_epoch), " steps an epoch"));
    int64_t model_parameters = 0;
    for (const NamedParameter& parameter : task_->ModelParameters()) model_parameters += parameter.tensor.numel();
    log_->Line(absl::StrCat("parameters: ", WithThousands(model_parameters), ", and of objectives ",
                            WithThousands(task_->ParameterCount() - model_parameters)));
  }

  absl::Status RunEpoch() {
    task_->SetTraining(true);
    const int accumulation = AccumulationSteps(config_);
    train_loader_->Start(state_.epoch(), state_.batches_done());
    StartInterval();
    while (state_.batches_done() < steps_.per_epoch * accumulation && state_.step() < steps_.total) {
      const absl::Status stepped = Step(accumulation);
      RETURN_IF_ERROR(stepped, absl::StrCat("step ", state_.step()));
      if (state_.step() % OrDefault(config_.log_interval(), 50) == 0 || state_.step() == steps_.total) {
        RETURN_IF_ERROR(Log());
      } else {
        ShowProgress();
      }
    }
    if (state_.batches_done() == steps_.per_epoch * accumulation) {
      state_.set_epoch(state_.epoch() + 1);
      state_.set_batches_done(0);
    }
    // Weights that are lost must not become the newest checkpoint.
    if (!metrics_.empty()) RETURN_IF_ERROR(CheckLoss(metrics_.Means()["train/loss"]));
    const bool last = state_.step() == steps_.total;
    if (last || state_.epoch() % OrDefault(config_.eval_interval(), 1) == 0) {
      const absl::Status validated = Validate();
      // Broken validation images must not cost an epoch.
      if (!validated.ok()) RETURN_IF_ERROR(Save());
      RETURN_IF_ERROR(validated);
    }
    const bool best = state_.best_step() == state_.step();
    if (last || best || state_.epoch() % OrDefault(config_.checkpoint_interval(), 1) == 0) RETURN_IF_ERROR(Save());
    return absl::OkStatus();
  }

  // One optimizer step.
  absl::Status Step(int accumulation) {
    const double progress = static_cast<double>(state_.step()) / steps_.total;
    for (int part = 0; part < accumulation; ++part) {
      ASSIGN_OR_RETURN(const std::optional<Batch> batch, train_loader_->Next());
      if (!batch.has_value()) return absl::InternalError("the loader's epoch ended before its last batch");
      try {
        const TaskOutput output = step_->Forward(*batch, state_.step(), part, progress);
        step_->Backward(output.loss);
        metrics_.Add("train/", output.metrics);
      } catch (...) {
        return CurrentExceptionToStatus("forward and backward");
      }
      images_ += batch->size();
      state_.set_batches_done(state_.batches_done() + 1);
    }
    try {
      learning_rate_ = schedule_->LearningRate(state_.step());
      const at::Tensor gradient_norm = step_->Update(learning_rate_);
      if (gradient_norm.defined()) metrics_.Add("grad_norm", gradient_norm, 1);
    } catch (...) {
      return CurrentExceptionToStatus("optimizer");
    }
    state_.set_step(state_.step() + 1);
    return absl::OkStatus();
  }

  void StartInterval() {
    metrics_.Clear();
    images_ = 0;
    interval_start_ = Now();
    interval_wait_ = train_loader_->wait_seconds();
  }

  double Epoch() const {
    const int accumulation = AccumulationSteps(config_);
    return state_.epoch() + static_cast<double>(state_.batches_done()) / (steps_.per_epoch * accumulation);
  }

  Progress CurrentProgress() {
    const double elapsed = std::max(1e-9, Now() - interval_start_);
    Progress progress{.step = state_.step(), .total_steps = steps_.total, .epoch = Epoch(), .epochs = config_.epochs()};
    progress.values = latest_;
    progress.values["lr"] = learning_rate_;
    progress.images_per_second = images_ / elapsed;
    progress.data_wait = (train_loader_->wait_seconds() - interval_wait_) / elapsed;
    progress.seconds_left =
        (steps_.total - state_.step()) * config_.batch_size() / std::max(1e-9, progress.images_per_second);
    return progress;
  }

  // Between lines of the log: what costs no look at the device.
  void ShowProgress() {
    if (!log_->has_terminal() || Now() - shown_ < 0.2) return;
    shown_ = Now();
    log_->Progress(FormatProgress(CurrentProgress()));
  }

  absl::Status Log() {
    for (const auto& [name, value] : metrics_.Means()) latest_[name] = value;
    const Progress progress = CurrentProgress();
    latest_["lr"] = learning_rate_;
    std::map<std::string, double> values = latest_;
    std::erase_if(values, [](const auto& entry) { return entry.first.starts_with("val"); });
    values["images_per_second"] = progress.images_per_second;
    values["data_wait"] = progress.data_wait;
    RETURN_IF_ERROR(Record(values));
    const std::string line = FormatProgress(progress);
    log_->Detail(line);
    log_->Progress(line);
    StartInterval();
    return CheckLoss(latest_["train/loss"]);
  }

  absl::Status CheckLoss(double loss) const {
    if (std::isfinite(loss)) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("the training loss is ", loss, " at step ", state_.step(),
                                                      " (learning rate ", learning_rate_,
                                                      "); try a smaller learning rate"));
  }

  absl::Status Record(const std::map<std::string, double>& values) {
    MetricsRecord record{.step = state_.step(), .epoch = Epoch(), .wall_time = Now(), .values = values};
    for (const auto& sink : sinks_) {
      RETURN_IF_ERROR(sink->Write(record));
      RETURN_IF_ERROR(sink->Flush());
    }
    return absl::OkStatus();
  }

  absl::Status Validate() {
    val_.clear();
    ASSIGN_OR_RETURN(const auto metrics, Evaluate(*task_, *val_loader_, *normalize_, config_.precision(), device_),
                     "validation");
    for (const auto& [name, value] : metrics) val_["val/" + name] = value;
    if (ema_ != nullptr) {
      ema_->Swap();
      const auto averaged = Evaluate(*task_, *val_loader_, *normalize_, config_.precision(), device_);
      ema_->Swap();
      RETURN_IF_ERROR(averaged.status(), "validation of the moving average");
      for (const auto& [name, value] : *averaged) val_["val_ema/" + name] = value;
    }
    for (const auto& [name, value] : val_) latest_[name] = value;
    // Of a run that was complete already, this line has been recorded.
    if (state_.step() > resumed_at_) RETURN_IF_ERROR(Record(val_));

    const std::string headline = "val/" + task_->HeadlineMetric();
    std::string line =
        absl::StrFormat("epoch %d: %s %.2f %%, loss %.4g", state_.epoch(), headline, val_[headline], val_["val/loss"]);
    if (ema_ != nullptr)
      absl::StrAppendFormat(&line, ", moving average %.2f %%", val_["val_ema/" + task_->HeadlineMetric()]);
    if (!state_.has_best_value() || val_[headline] > state_.best_value()) {
      state_.set_best_metric(headline);
      state_.set_best_value(val_[headline]);
      state_.set_best_step(state_.step());
      line += ", the best so far";
    }
    log_->Line(line);
    return absl::OkStatus();
  }

  absl::Status Save() {
    Checkpoint checkpoint;
    state_.set_graticule_version(kVersion);
    state_.set_torch_version(TORCH_VERSION);
    checkpoint.state = state_;
    checkpoint.model = ModelTensors(*task_);
    checkpoint.model.metadata[kClassNamesKey] = absl::StrJoin(data_.train->class_names(), "\n");
    checkpoint.objectives = ObjectiveTensors(*task_);
    if (ema_ != nullptr) checkpoint.ema = ema_->State();
    checkpoint.optimizer = optimizer_->State();
    RETURN_IF_ERROR(SaveCheckpoint(options_.output, checkpoint));
    return PruneCheckpoints(options_.output, OrDefault(config_.keep_checkpoints(), 2),
                            state_.has_best_value() ? std::optional<int64_t>(state_.best_step()) : std::nullopt);
  }

  absl::Status Conclude() {
    log_->Progress("");
    if (state_.step() > resumed_at_) {
      log_->Line(absl::StrCat("trained ", WithThousands(state_.step() - resumed_at_), " steps in ",
                              FormatSeconds(seconds_), ", validation and checkpoints included"));
    } else {
      log_->Line("the run was complete already; another --output=DIR starts a new one");
    }
    if (state_.has_best_value()) {
      log_->Line(absl::StrFormat("best %s %.2f %% at step %s", state_.best_metric(), state_.best_value(),
                                 WithThousands(state_.best_step())));
    }
    FieldErrors unmet;
    for (const Expected& expected : experiment_.expected()) {
      const auto found = latest_.find(expected.metric());
      if (found == latest_.end()) {
        unmet.Add("", absl::StrCat("expected ", expected.metric(), ", but there is no such metric"));
        continue;
      }
      std::string bound;
      if (expected.has_min()) bound += absl::StrCat(" ≥ ", expected.min());
      if (expected.has_max()) bound += absl::StrCat(" ≤ ", expected.max());
      const bool holds = (!expected.has_min() || found->second >= expected.min()) &&
                         (!expected.has_max() || found->second <= expected.max());
      const std::string line = absl::StrFormat("expected %s%s: %.4g, %s", expected.metric(), bound, found->second,
                                               holds ? "holds" : "missed");
      log_->Line(line);
      if (!holds) unmet.Add("", line);
    }
    const std::string& run = options_.output;
    const std::string spec = absl::StrCat(run, "/experiment.textproto --checkpoint=", run);
    log_->Line(absl::StrCat("\nEverything is in ", run,
                            ":\n  metrics.csv, log.txt, experiment.textproto, TensorBoard events, checkpoints/last",
                            "\nTry next:\n  ", options_.command, " eval ", spec, "\n  ", options_.command, " predict ",
                            spec, " --images=YOUR.png\n  tensorboard --logdir=", run));
    return unmet.empty() ? absl::OkStatus() : absl::FailedPreconditionError(unmet.ToStatus().message());
  }

  struct CloseFile {
    void operator()(int* file) const {
      close(*file);
      delete file;
    }
  };

  const Experiment experiment_;
  const Trainer& config_;
  const TrainOptions options_;
  const std::string spec_path_ = options_.output + "/experiment.textproto";
  const std::string spec_text_ = PrintExperiment(experiment_);
  bool spec_is_written_ = false;
  std::unique_ptr<int, CloseFile> lock_;
  std::unique_ptr<RunLog> log_;
  c10::Device device_ = c10::kCPU;
  DataParts data_;
  Steps steps_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Schedule> schedule_;
  std::unique_ptr<Ema> ema_;
  std::optional<Normalizer> normalize_;
  std::optional<TrainingStep> step_;
  std::unique_ptr<Loader> train_loader_, val_loader_;
  std::vector<std::unique_ptr<Sink>> sinks_;

  TrainState state_;
  int64_t resumed_at_ = 0;
  double learning_rate_ = 0;
  double seconds_ = 0;
  std::map<std::string, double> latest_;  // last value of every metric
  std::map<std::string, double> val_;     // of the last validation

  // Since the last line of the log or the start of the epoch, whichever is later.
  Metrics metrics_;
  int64_t images_ = 0;
  double interval_start_ = 0;
  double interval_wait_ = 0;
  double shown_ = 0;
};

}  // namespace

absl::Status Train(const Experiment& experiment, const TrainOptions& options) {
  return Training(experiment, options).Run();
}

}  // namespace graticule
