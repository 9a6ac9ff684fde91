#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/mm.h"
#include "ATen/ops/randint.h"
#include "ATen/ops/randn.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/bench_data.h"
#include "app/command.h"
#include "app/feed.h"
#include "app/model_summary.h"
#include "app/stopwatch.h"
#include "c10/core/GradMode.h"
#include "nlohmann/json.hpp"
#include "plugin/status.h"
#include "trainer/device.h"
#include "trainer/ema.h"
#include "trainer/loss_scaler.h"
#include "trainer/optimizers/parameter_groups.h"
#include "trainer/parts.h"
#include "trainer/progress.h"
#include "trainer/step.h"
#include "trainer/teacher.h"

namespace graticule {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  SpecArguments spec;
  int batch_size = 0;
  int steps = 10;
  int rounds = 1;
  Trainer::Precision precision = Trainer::PRECISION_UNSPECIFIED;  // unspecified: the spec's
  int threads = 0;
  bool model_only = false;
  bool data_only = false;
  bool interactive = false;
  bool json = false;
};

constexpr int kWarmUpSteps = 2;
// A default batch that any machine can hold.
constexpr int kGreatestDefaultBatch = 32;

double Sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Of one step each.
struct Speed {
  int64_t batch_size = 0;
  std::vector<double> steps;

  double ImagesPerSecond() const { return batch_size * steps.size() / Sum(steps); }
  Json ToJson() const {
    return {{"images_per_second", ImagesPerSecond()},
            {"step_seconds_mean", Sum(steps) / steps.size()},
            {"step_seconds_median", Median(steps)}};
  }
};

struct TrainingSpeed : Speed {
  double data = 0, forward = 0, backward = 0, optimizer = 0;  // seconds

  Json Shares(bool with_data) const {
    const double total = Sum(steps);
    Json shares = {{"forward", forward / total}, {"backward", backward / total}, {"optimizer", optimizer / total}};
    if (with_data) shares["data"] = data / total;
    return shares;
  }
};

// Multiply-adds of a matrix product count as two operations. The best of several sizes: a peak. A processor that has no
// instructions for the type may take minutes for the larger ones.
double MeasureGemmPeak(at::ScalarType dtype, c10::Device device) {
  constexpr double kSecondsEach = 0.2;
  double peak = 0, seconds = 0;
  for (const int64_t n : {256, 512, 1024, 1536, 2048}) {
    if (seconds > kSecondsEach) break;
    const at::Tensor a = at::randn({n, n}, device).to(dtype), b = at::randn({n, n}, device).to(dtype);
    at::Tensor c = at::mm(a, b);
    Stopwatch watch(device);
    for (double elapsed = 0; elapsed < kSecondsEach; elapsed += seconds) {
      at::mm_out(c, a, b);
      seconds = watch.Lap();
      peak = std::max(peak, 2.0 * n * n * n / seconds);
    }
  }
  return peak;
}

// For a reader; --json has the same and more.
std::string Table(const Json& report) {
  const auto number = [&](const char* pointer) { return report.at(Json::json_pointer(pointer)).get<double>(); };
  const auto speed = [&](const char* what) {
    const std::string path = absl::StrCat("/", what);
    return absl::StrFormat("%9.1f img/s, step %.4g s (median %.4g s)", number((path + "/images_per_second").c_str()),
                           number((path + "/step_seconds_mean").c_str()),
                           number((path + "/step_seconds_median").c_str()));
  };
  std::string text = absl::StrFormat("%s: batch %d, %s, %s, %d threads\n", report["spec"].get<std::string>(),
                                     report["batch_size"].get<int>(), report["precision"].get<std::string>(),
                                     report["device"].get<std::string>(), report["threads"].get<int>());
  absl::StrAppend(&text, "training    ", speed("train"), "\n");
  std::vector<std::string> shares;
  for (const auto& [name, share] : report["train"]["shares"].items()) {
    shares.push_back(absl::StrFormat("%s %.1f %%", name, 100 * share.get<double>()));
  }
  absl::StrAppend(&text, "            ", absl::StrJoin(shares, ", "), "\n");
  absl::StrAppend(&text, "prediction  ", speed("inference"), "\n");
  if (report.contains("data")) {
    absl::StrAppend(&text, "loader      ", speed("data"), "\n");
    absl::StrAppendFormat(&text, "            %.1f img/s in training on its batches, whose shares stand above\n",
                          number("/data/train_images_per_second"));
  }
  absl::StrAppendFormat(&text, "model       %s parameters, %.4g GMACs an image\n",
                        WithThousands(report["parameters"].get<int64_t>()), number("/macs_per_image") / 1e9);
  absl::StrAppendFormat(
      &text, "machine     %.1f GFLOP/s in matrix products, of which training has %.1f %%, prediction %.1f %%\n",
      number("/gemm_peak_flops") / 1e9, 100 * number("/share_of_peak"), 100 * number("/inference/share_of_peak"));
  absl::StrAppendFormat(&text, "memory      %.2f GB at most\n", number("/peak_memory_bytes") / 1e9);
  return text;
}

class Bench {
 public:
  Bench(const Experiment& experiment, const Arguments& arguments)
      : experiment_(experiment), trainer_(experiment_.trainer()), arguments_(arguments) {}

  absl::Status Run() {
    RETURN_IF_ERROR(Build());
    for (int round = 0; round < arguments_.rounds; ++round) {
      std::string line;
      if (arguments_.interactive && !std::getline(std::cin, line)) break;
      ASSIGN_OR_RETURN(const Json report, Measure());
      std::cout << (arguments_.json ? report.dump() + "\n" : Table(report)) << std::flush;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Build() {
    SetThreads(trainer_);
    SetTf32(trainer_);
    ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(trainer_));
    device_ = device;
    if (!arguments_.model_only) OpenData();
    const std::vector<std::string> class_names =
        data_.train != nullptr ? data_.train->class_names() : std::vector<std::string>();
    ASSIGN_OR_RETURN(summary_, SummariseModel(experiment_, /*depth=*/0, class_names));
    ASSIGN_OR_RETURN(task_, BuildTask(experiment_, summary_.class_names));
    task_->To(device_);
    ASSIGN_OR_RETURN(const std::vector<TrainedParameter> parameters, TrainedParameters(trainer_, *task_));
    ASSIGN_OR_RETURN(optimizer_, BuildOptimizer(experiment_, parameters), "trainer.optimizer");
    const Steps steps{.per_epoch = arguments_.steps,
                      .total = static_cast<int64_t>(arguments_.steps) * std::max(1, trainer_.epochs())};
    ASSIGN_OR_RETURN(schedule_, BuildSchedule(experiment_, steps), "trainer.schedule");
    if (trainer_.ema_decay() > 0) {
      ema_ = std::make_unique<Ema>(trainer_.ema_decay(), trainer_.ema_warmup(), task_->ModelParameters(),
                                   task_->ModelBuffers());
    }
    normalize_.emplace(experiment_.data(), device_);
    if (trainer_.precision() == Trainer::FP16) loss_scaler_.emplace();
    if (experiment_.has_teacher()) {
      ASSIGN_OR_RETURN(teacher_, BuildTeacher(experiment_, summary_.class_names, device_));
    }
    step_.emplace(trainer_, StepParts{.normalize = *normalize_,
                                      .device = device_,
                                      .task = *task_,
                                      .parameters = parameters,
                                      .optimizer = *optimizer_,
                                      .ema = ema_.get(),
                                      .loss_scaler = loss_scaler_.has_value() ? &*loss_scaler_ : nullptr,
                                      .teacher = teacher_.get()});
    RETURN_IF_ERROR(MakeBatch());
    if (data_.train != nullptr && data_.train->size() >= trainer_.batch_size()) feed_.emplace(experiment_, data_);

    gemm_peak_ = MeasureGemmPeak(AutocastDtype(trainer_.precision()).value_or(at::kFloat), device_);
    RETURN_IF_ERROR(MeasureTraining(/*from_loader=*/false, kWarmUpSteps).status());
    return MeasureInference(kWarmUpSteps).status();
  }

  // As the loader's: random pixels, channels last, and labels.
  absl::Status MakeBatch() {
    SeedDraws({trainer_.seed()});
    const auto [height, width] = summary_.image_size;
    batch_.images = at::randint(0, 256, {trainer_.batch_size(), height, width, 3}, at::kByte).permute({0, 3, 1, 2});
    ASSIGN_OR_RETURN(const at::Tensor logits, Predict(batch_.images.narrow(0, 0, 1)));
    batch_.labels = at::randint(0, logits.size(1), {trainer_.batch_size()}, at::kLong);
    return absl::OkStatus();
  }

  absl::StatusOr<at::Tensor> Predict(const at::Tensor& images) {
    task_->SetTraining(false);
    c10::NoGradGuard no_grad;
    try {
      const at::Tensor ready = (*normalize_)(images);
      const AutocastScope autocast(trainer_.precision(), device_);
      return task_->Predict(ready, {}).at("logits");
    } catch (...) {
      return CurrentExceptionToStatus("prediction");
    }
  }

  void OpenData() {
    auto data = BuildData(experiment_);
    if (!data.ok()) {
      std::cerr << "the data set can't be opened, so the loader is not measured: " << data.status().message() << "\n";
      return;
    }
    data_ = *std::move(data);
    if (data_.train->size() < trainer_.batch_size()) {
      std::cerr << "the data set has fewer images than a batch, so the loader is not measured\n";
    }
  }

  // On the batch at hand, or on the loader's.
  absl::StatusOr<TrainingSpeed> MeasureTraining(bool from_loader, int steps) {
    task_->SetTraining(true);
    TrainingSpeed speed;
    speed.batch_size = trainer_.batch_size();
    Stopwatch step_watch(device_), watch(device_);
    for (int step = 0; step < steps; ++step) {
      watch.Lap();
      step_watch.Lap();
      Batch batch = batch_;
      if (from_loader) {
        ASSIGN_OR_RETURN(batch, feed_->Next());
        speed.data += watch.Lap();
      }
      try {
        const TaskOutput output = step_->Forward(batch, step, 0, static_cast<double>(step) / steps);
        speed.forward += watch.Lap();
        RETURN_IF_ERROR(step_->Backward(output.loss, 0));
        speed.backward += watch.Lap();
        step_->Update(schedule_->LearningRate(step), step);
        speed.optimizer += watch.Lap();
      } catch (...) {
        return CurrentExceptionToStatus("training step");
      }
      speed.steps.push_back(step_watch.Lap());
    }
    return speed;
  }

  absl::StatusOr<Speed> MeasureInference(int steps) {
    Speed speed{.batch_size = trainer_.batch_size()};
    Stopwatch watch(device_);
    for (int step = 0; step < steps; ++step) {
      RETURN_IF_ERROR(Predict(batch_.images).status());
      speed.steps.push_back(watch.Lap());
    }
    return speed;
  }

  // The loader alone.
  absl::StatusOr<Speed> MeasureData(int steps) {
    Speed speed{.batch_size = trainer_.batch_size()};
    Stopwatch watch(c10::kCPU);
    for (int step = 0; step < steps; ++step) {
      RETURN_IF_ERROR(feed_->Next().status());
      speed.steps.push_back(watch.Lap());
    }
    return speed;
  }

  absl::StatusOr<Json> Measure() {
    ASSIGN_OR_RETURN(const TrainingSpeed training, MeasureTraining(/*from_loader=*/false, arguments_.steps));
    ASSIGN_OR_RETURN(const Speed inference, MeasureInference(arguments_.steps));
    Json report = {{"spec", arguments_.spec.path},
                   {"precision", PrecisionName(trainer_.precision())},
                   {"batch_size", trainer_.batch_size()},
                   {"threads", at::get_num_threads()},
                   {"device", device_.str()}};
    report["train"] = training.ToJson();
    report["train"]["shares"] = training.Shares(/*with_data=*/false);
    report["inference"] = inference.ToJson();
    if (feed_) {
      ASSIGN_OR_RETURN(const Speed loading, MeasureData(arguments_.steps));
      ASSIGN_OR_RETURN(const TrainingSpeed fed, MeasureTraining(/*from_loader=*/true, arguments_.steps));
      report["data"] = loading.ToJson();
      report["data"]["train_images_per_second"] = fed.ImagesPerSecond();
      report["train"]["shares"] = fed.Shares(/*with_data=*/true);
    }
    // The backward pass has two products for each of the forward pass, and a multiply-add is two operations.
    const double flops = 2.0 * summary_.macs.total;
    report["macs_per_image"] = summary_.macs.total;
    report["gemm_peak_flops"] = gemm_peak_;
    report["share_of_peak"] = 3 * flops * training.ImagesPerSecond() / gemm_peak_;
    report["inference"]["share_of_peak"] = flops * inference.ImagesPerSecond() / gemm_peak_;
    report["peak_memory_bytes"] = PeakMemory(device_);
    report["parameters"] = summary_.parameters;
    return report;
  }

  const Experiment experiment_;
  const Trainer& trainer_;
  const Arguments& arguments_;
  c10::Device device_ = c10::kCPU;
  ModelSummary summary_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<TeacherModel> teacher_;
  std::optional<LossScaler> loss_scaler_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Schedule> schedule_;
  std::unique_ptr<Ema> ema_;
  std::optional<Normalizer> normalize_;
  std::optional<TrainingStep> step_;
  DataParts data_;
  std::optional<Feed> feed_;
  Batch batch_;
  double gemm_peak_ = 0;
};

}  // namespace

void AddBench(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure an experiment's speed: training and prediction on random pixels, and its data loader");
  arguments->spec.AddTo(*command);
  command
      ->add_option("--batch-size", arguments->batch_size,
                   absl::StrCat("Images a step [the spec's, at most ", kGreatestDefaultBatch, "]"))
      ->check(kPositive);
  command->add_option("--steps", arguments->steps, "Steps that are measured, after the first few [10]")
      ->check(kPositive);
  command->add_option("--precision", arguments->precision, "fp32, bf16 or fp16 [the spec's]")
      ->type_name("NAME")
      ->transform(PrecisionByName());
  command
      ->add_option("--threads", arguments->threads,
                   "Threads of the CPU's kernels, or with --data the loader's [the spec's]")
      ->check(kPositive);
  CLI::Option* model_only = command->add_flag("--model-only", arguments->model_only, "Leave the data set alone");
  command
      ->add_flag("--data", arguments->data_only,
                 "Measure the data loader alone, with 1, 2, 4, … threads or with --threads")
      ->excludes(model_only);
  command->add_option("--rounds", arguments->rounds, "Measure so many times, with a report each [1]")->check(kPositive);
  command->add_flag("--interactive", arguments->interactive,
                    "Wait for a line on standard input before each round, so that two programs can take turns");
  command->add_flag("--json", arguments->json, "Print each report as one line of JSON");
  command->callback([arguments, &action] {
    action = [arguments]() -> absl::Status {
      ASSIGN_OR_RETURN(Spec spec, arguments->spec.LoadForModel());
      Trainer& trainer = *spec.experiment().mutable_trainer();
      const int part = trainer.batch_size() / std::max(1, trainer.accumulation_steps());
      trainer.clear_accumulation_steps();
      trainer.set_batch_size(arguments->batch_size > 0 ? arguments->batch_size
                                                       : std::clamp(part, 1, kGreatestDefaultBatch));
      if (arguments->precision != Trainer::PRECISION_UNSPECIFIED) trainer.set_precision(arguments->precision);
      if (arguments->data_only) {
        return BenchData(spec.experiment(), {.spec = arguments->spec.path,
                                             .steps = arguments->steps,
                                             .threads = arguments->threads,
                                             .rounds = arguments->rounds,
                                             .interactive = arguments->interactive,
                                             .json = arguments->json});
      }
      if (arguments->threads > 0) trainer.set_threads(arguments->threads);
      return Bench(spec.experiment(), *arguments).Run();
    };
  });
}

}  // namespace graticule
