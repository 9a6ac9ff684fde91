#include "trainer/parts.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/loader/cached_dataset.h"
#include "data/loader/free_memory.h"
#include "plugin/registry.h"
#include "trainer/device.h"
#include "trainer/optimizers/clip.h"
#include "trainer/optimizers/parameter_groups.h"
#include "trainer/sinks/sink.h"
#include "trainer/teacher.h"

namespace graticule {
namespace {

Size2d ReadImageSize(const Data& data, FieldErrors& errors) {
  if (data.image_size_size() != 1 && data.image_size_size() != 2) {
    errors.Add("data.image_size", absl::StrCat("must be one number (a square) or two (height, width), found ",
                                               data.image_size_size(), " numbers"));
    return {};
  }
  for (int i = 0; i < data.image_size_size(); ++i) {
    if (data.image_size(i) > 0) continue;
    errors.Add(absl::StrCat("data.image_size[", i, "]"), absl::StrCat("must be positive, found ", data.image_size(i)));
    return {};
  }
  return {data.image_size(0), data.image_size(data.image_size_size() - 1)};
}

// A transform's own mistakes are said also where the size is one, of which it is not told.
TransformContext ContextOf(const Data& data, Size2d image_size) {
  return {.image_size = image_size.area() > 0 ? image_size : Size2d{224, 224}, .statistics = StatisticsOf(data)};
}

template <typename T>
std::vector<std::unique_ptr<T>> MakeEach(const google::protobuf::RepeatedPtrField<google::protobuf::Any>& configs,
                                         const std::string& path, const typename T::Context& context,
                                         FieldErrors& errors) {
  std::vector<std::unique_ptr<T>> made;
  for (int i = 0; i < configs.size(); ++i) {
    auto plugin = Registry<T>::Create(configs[i], context);
    errors.Add(absl::StrCat(path, "[", i, "]"), plugin.status());
    if (plugin.ok()) made.push_back(*std::move(plugin));
  }
  return made;
}

std::unique_ptr<Dataset> OpenSplit(const Data& data, Split split, FieldErrors& errors) {
  auto dataset = Registry<Dataset>::Create(data.dataset(), {.split = split});
  errors.Add("data.dataset", dataset.status());
  return dataset.ok() ? *std::move(dataset) : nullptr;
}

// More than a machine can have is a slip of the pen that would exhaust it.
void CheckThreads(const char* path, int threads, FieldErrors& errors) {
  constexpr int kMost = 1024;
  if (threads < 0 || threads > kMost) {
    errors.Add(path, absl::StrCat("must be 0 (one a core) to ", kMost, ", found ", threads));
  }
}

void CheckDataFields(const Data& data, FieldErrors& errors) {
  for (const auto& [name, values] : {std::pair("data.mean", &data.mean()), std::pair("data.std", &data.std())}) {
    if (values->size() != 0 && values->size() != 3) {
      errors.Add(name, absl::StrCat("must have three numbers (R, G, B), found ", values->size()));
    }
  }
  for (int i = 0; i < data.std_size(); ++i) {
    if (!(data.std(i) > 0 && std::isfinite(data.std(i)))) {
      errors.Add(absl::StrCat("data.std[", i, "]"), absl::StrCat("must be positive, found ", data.std(i)));
    }
  }
  for (int i = 0; i < data.mean_size(); ++i) {
    if (!std::isfinite(data.mean(i))) errors.Add(absl::StrCat("data.mean[", i, "]"), "must be a number");
  }
  CheckThreads("data.threads", data.threads(), errors);
  const auto not_negative = [&](const char* name, int64_t value) {
    if (value < 0) errors.Add(name, absl::StrCat("must not be negative, found ", value));
  };
  not_negative("data.eval_batch_size", data.eval_batch_size());
  not_negative("data.augmentation_repeats", data.augmentation_repeats());
  not_negative("data.shuffle_buffer", data.shuffle_buffer());
  not_negative("data.cache.max_bytes", data.cache().max_bytes());
  if (!Cache::Kind_IsValid(data.cache().kind())) {
    errors.Add("data.cache.kind", absl::StrCat("must be NONE, ENCODED or DECODED, found ", data.cache().kind()));
  }
  if (data.has_max_broken() && !(data.max_broken() >= 0 && data.max_broken() <= 1)) {
    errors.Add("data.max_broken", absl::StrCat("is a share, 0 to 1; found ", data.max_broken()));
  }
}

void CheckTrainerFields(const Trainer& trainer, bool resumes, FieldErrors& errors) {
  const auto positive = [&](const char* name, double value) {
    if (!(value > 0 && std::isfinite(value))) {
      errors.Add(absl::StrCat("trainer.", name), absl::StrCat("must be positive, found ", value));
    }
  };
  const auto not_negative = [&](const char* name, double value) {
    if (!(value >= 0 && std::isfinite(value))) {
      errors.Add(absl::StrCat("trainer.", name), absl::StrCat("must not be negative, found ", value));
    }
  };
  positive("epochs", trainer.epochs());
  positive("batch_size", trainer.batch_size());
  positive("learning_rate", trainer.learning_rate());
  not_negative("accumulation_steps", trainer.accumulation_steps());
  not_negative("max_steps", trainer.max_steps());
  not_negative("learning_rate_batch_size", trainer.learning_rate_batch_size());
  CheckClipping(trainer, errors);
  CheckThreads("trainer.threads", trainer.threads(), errors);
  not_negative("log_interval", trainer.log_interval());
  not_negative("eval_interval", trainer.eval_interval());
  not_negative("checkpoint_interval", trainer.checkpoint_interval());
  not_negative("checkpoint_steps", trainer.checkpoint_steps());
  not_negative("checkpoint_minutes", trainer.checkpoint_minutes());
  not_negative("keep_checkpoints", trainer.keep_checkpoints());
  not_negative("keep_every_steps", trainer.keep_every_steps());
  not_negative("guard.max_skipped", trainer.guard().max_skipped());
  not_negative("guard.stall_minutes", trainer.guard().stall_minutes());
  not_negative("distributed.timeout_seconds", trainer.distributed().timeout_seconds());
  not_negative("distributed.bucket_mebibytes", trainer.distributed().bucket_mebibytes());
  const auto known = [&](const char* name, bool valid, int value) {
    if (!valid) errors.Add(absl::StrCat("trainer.", name), absl::StrCat("there is no value ", value));
  };
  known("precision", Trainer::Precision_IsValid(trainer.precision()), trainer.precision());
  known("on_save_error", Trainer::SaveError_IsValid(trainer.on_save_error()), trainer.on_save_error());
  known("guard.on_non_finite", Guard::NonFinite_IsValid(trainer.guard().on_non_finite()),
        trainer.guard().on_non_finite());
  if (trainer.ema_warmup() && trainer.ema_decay() == 0) {
    errors.Add("trainer.ema_warmup", "has no effect without ema_decay");
  }
  if (!(trainer.ema_decay() >= 0 && trainer.ema_decay() < 1)) {
    errors.Add("trainer.ema_decay", absl::StrCat("must be in [0, 1), found ", trainer.ema_decay()));
  }
  if (trainer.batch_size() > 0 && trainer.batch_size() % AccumulationSteps(trainer) != 0) {
    errors.Add("trainer.accumulation_steps",
               absl::StrCat(trainer.accumulation_steps(), " does not divide batch_size ", trainer.batch_size()));
  }
  if (std::error_code ignored; !resumes && !trainer.initial_checkpoint().empty() &&
                               !std::filesystem::exists(trainer.initial_checkpoint(), ignored)) {
    errors.Add("trainer.initial_checkpoint", absl::StrCat(trainer.initial_checkpoint(), ": no such file or folder"));
  }
  errors.Add("trainer.device", ChooseDevice(trainer).status());
}

// It becomes a folder below runs/.
void CheckName(const std::string& name, FieldErrors& errors) {
  if (name.find('/') != std::string::npos || name == "." || name == "..") {
    errors.Add("name", absl::StrCat("is the name of a folder below runs/, so it has no '/' in it; found '", name, "'"));
  }
}

void CheckExpected(const Experiment& experiment, FieldErrors& errors) {
  for (int i = 0; i < experiment.expected_size(); ++i) {
    const Expected& expected = experiment.expected(i);
    const std::string path = absl::StrCat("expected[", i, "]");
    if (expected.metric().empty()) errors.Add(path, "names no metric");
    for (const auto& [name, given, bound] : {std::tuple("min", expected.has_min(), expected.min()),
                                             std::tuple("max", expected.has_max(), expected.max())}) {
      if (given && std::isnan(bound)) errors.Add(absl::StrCat(path, ".", name), "must be a number");
    }
    if (!expected.has_min() && !expected.has_max()) errors.Add(path, "has neither min nor max");
    if (expected.has_min() && expected.has_max() && expected.min() > expected.max()) {
      errors.Add(path, absl::StrCat("no value holds: min is ", expected.min(), ", max ", expected.max()));
    }
  }
}

TaskContext MakeTaskContext(const Experiment& experiment, Size2d image_size,
                            const std::vector<std::string>& class_names) {
  TaskContext context{.backbone = experiment.backbone(),
                      .pooling = experiment.pooling(),
                      .image_size = image_size,
                      .class_names = class_names};
  context.objectives.assign(experiment.objectives().begin(), experiment.objectives().end());
  return context;
}

template <typename T>
std::vector<const T*> Pointers(const std::vector<std::unique_ptr<T>>& owned) {
  std::vector<const T*> pointers;
  for (const auto& one : owned) pointers.push_back(one.get());
  return pointers;
}

LoaderOptions CommonOptions(const Experiment& experiment, const DataParts& parts, const ProcessPlace& place) {
  const Data& data = experiment.data();
  LoaderOptions options;
  options.image_size = parts.image_size;
  options.threads = LoaderThreads(data, place.local_size);
  options.rank = place.rank;
  options.world_size = place.world_size;
  options.decode = parts.decode;
  options.stop_at_truncated = data.decoding().truncated() == Decoding::FAIL;
  options.seed = experiment.trainer().seed();
  if (data.has_max_broken()) options.max_broken = data.max_broken();
  const absl::StatusOr<c10::Device> device = ChooseDevice(experiment.trainer(), place.local_rank);
  options.pinned = device.ok() && device->is_cuda();
  // Pinned memory asks the current GPU what has been copied; on the first one, each process would have a context there.
  if (options.pinned) options.on_thread_start = [device = *device] { MakeCurrent(device); };
  return options;
}

}  // namespace

int AccumulationSteps(const Trainer& trainer) { return std::max(1, trainer.accumulation_steps()); }

int ImagesOfAPass(const Trainer& trainer, int world_size) {
  return trainer.batch_size() / (AccumulationSteps(trainer) * world_size);
}

int LoaderThreads(const Data& data, int processes) {
  if (data.threads() > 0) return data.threads();
  return std::clamp<int>(std::thread::hardware_concurrency() / processes, 1, 16);
}

std::unique_ptr<Loader> DataParts::TrainLoader(const Experiment& experiment, const ProcessPlace& place) const {
  LoaderOptions options = CommonOptions(experiment, *this, place);
  options.batch_size = ImagesOfAPass(experiment.trainer(), place.world_size);
  const Data& data = experiment.data();
  options.exact = data.decoding().exact();
  options.repeats = std::max(1, data.augmentation_repeats());
  if (data.shuffle_buffer() > 0) options.shuffle_buffer = data.shuffle_buffer();
  return std::make_unique<Loader>(train.get(), Pointers(train_transforms), Pointers(batch_transforms), options);
}

std::unique_ptr<Loader> DataParts::EvalLoader(const Experiment& experiment, const ProcessPlace& place) const {
  LoaderOptions options = CommonOptions(experiment, *this, place);
  options.batch_size = experiment.data().eval_batch_size() > 0 ? experiment.data().eval_batch_size()
                                                               : ImagesOfAPass(experiment.trainer(), place.world_size);
  options.shuffle = false;
  options.drop_last = false;
  return std::make_unique<Loader>(val.get(), Pointers(eval_transforms), std::vector<const BatchTransform*>(), options);
}

namespace {

void AddCache(const Cache& cache, DataParts& parts) {
  if (cache.kind() != Cache::ENCODED && cache.kind() != Cache::DECODED) return;
  const auto budget =
      std::make_shared<std::atomic<int64_t>>(cache.max_bytes() > 0 ? cache.max_bytes() : FreeMemory() / 2);
  for (std::unique_ptr<Dataset>* dataset : {&parts.train, &parts.val}) {
    *dataset = std::make_unique<CachedDataset>(std::move(*dataset), cache.kind(), budget, parts.decode);
  }
}

// What evaluation needs besides the data set, which is all that prediction needs.
DataParts MakeEvalParts(const Data& data, FieldErrors& errors) {
  CheckDataFields(data, errors);
  DataParts parts;
  parts.image_size = ReadImageSize(data, errors);
  parts.eval_transforms =
      MakeEach<Transform>(data.eval_transforms(), "data.eval_transforms", ContextOf(data, parts.image_size), errors);
  FieldErrors of_decoding;
  parts.decode = DecodeOptions::From(data.decoding(), of_decoding);
  errors.Add("data.decoding", of_decoding.ToStatus());
  return parts;
}

}  // namespace

absl::StatusOr<DataParts> BuildData(const Experiment& experiment) {
  const Data& data = experiment.data();
  FieldErrors errors;
  DataParts parts = MakeEvalParts(data, errors);
  parts.train_transforms =
      MakeEach<Transform>(data.train_transforms(), "data.train_transforms", ContextOf(data, parts.image_size), errors);
  parts.train = OpenSplit(data, Split::kTrain, errors);
  // One mistake in a data set's config is one error, not one a split.
  if (parts.train != nullptr) parts.val = OpenSplit(data, Split::kVal, errors);
  if (errors.empty()) AddCache(data.cache(), parts);
  const int64_t classes = parts.train == nullptr ? 1 : static_cast<int64_t>(parts.train->class_names().size());
  parts.batch_transforms =
      MakeEach<BatchTransform>(data.batch_transforms(), "data.batch_transforms", {.num_classes = classes}, errors);
  if (!errors.empty()) return errors.ToStatus();
  return parts;
}

absl::StatusOr<DataParts> BuildEvalTransforms(const Experiment& experiment) {
  FieldErrors errors;
  DataParts parts = MakeEvalParts(experiment.data(), errors);
  if (!errors.empty()) return errors.ToStatus();
  return parts;
}

absl::StatusOr<std::unique_ptr<Task>> BuildTask(const Experiment& experiment,
                                                const std::vector<std::string>& class_names) {
  FieldErrors errors;
  const Size2d image_size = ReadImageSize(experiment.data(), errors);
  if (!errors.empty()) return errors.ToStatus();
  SeedDraws({experiment.trainer().seed(), kDrawsOfWeights});
  return Registry<Task>::Create(experiment.task(), MakeTaskContext(experiment, image_size, class_names));
}

absl::StatusOr<std::unique_ptr<Optimizer>> BuildOptimizer(const Experiment& experiment,
                                                          const std::vector<TrainedParameter>& parameters) {
  return Registry<Optimizer>::Create(experiment.trainer().optimizer(), {parameters});
}

absl::StatusOr<std::string> BestMetric(const Trainer& trainer, const Task& task) {
  std::vector<std::string> names;
  for (const std::string& name : task.EvaluationMetrics()) names.push_back(kValidation + name);
  for (const std::string& name : task.EvaluationMetrics()) {
    if (trainer.ema_decay() > 0) names.push_back(kValidationOfEma + name);
  }
  if (trainer.best_metric().empty()) return names.front();
  if (std::find(names.begin(), names.end(), trainer.best_metric()) != names.end()) return trainer.best_metric();
  return absl::InvalidArgumentError(absl::StrCat("must be one of ", absl::StrJoin(names, ", "), "; found '",
                                                 trainer.best_metric(), "'", DidYouMean(trainer.best_metric(), names)));
}

Steps CountSteps(const Trainer& trainer, int64_t train_size) {
  Steps steps;
  steps.per_epoch = train_size / trainer.batch_size();
  steps.total = steps.per_epoch * trainer.epochs();
  if (trainer.max_steps() > 0) steps.total = std::min<int64_t>(steps.total, trainer.max_steps());
  return steps;
}

absl::StatusOr<std::unique_ptr<Schedule>> BuildSchedule(const Experiment& experiment, const Steps& steps) {
  const Trainer& trainer = experiment.trainer();
  double learning_rate = trainer.learning_rate();
  if (trainer.learning_rate_batch_size() > 0) {
    learning_rate *= static_cast<double>(trainer.batch_size()) / trainer.learning_rate_batch_size();
  }
  return Registry<Schedule>::Create(trainer.schedule(), {.learning_rate = learning_rate,
                                                         .total_steps = steps.total,
                                                         .steps_per_epoch = steps.per_epoch,
                                                         .epochs = trainer.epochs()});
}

namespace {

// Of a slot whose plugin could not be made because something else is wrong: whether it can be chosen at all.
void CheckSlot(std::string_view kind, const std::string& path, const google::protobuf::Any& plugin,
               FieldErrors& errors) {
  const auto is_here = [&](const FieldError& error) { return error.path == path; };
  if (std::any_of(errors.errors().begin(), errors.errors().end(), is_here)) return;
  errors.Add(path, CheckPluginType(kind, AnyTypeName(plugin)));
}

// The task on the meta device: its shapes without weights. Nothing where it has mistakes.
std::unique_ptr<Task> CheckTask(const Experiment& experiment, const std::vector<std::string>& class_names,
                                FieldErrors& errors) {
  MetaScope meta;
  FieldErrors of_the_data;
  const Size2d image_size = ReadImageSize(experiment.data(), of_the_data);
  // What the task would say of a size that is wrong in itself helps nobody.
  if (of_the_data.empty()) {
    auto task = Registry<Task>::Create(experiment.task(), MakeTaskContext(experiment, image_size, class_names));
    if (task.ok()) return *std::move(task);
    // A task places its mistakes in the spec; one without a place is about the slot.
    for (const FieldError& error : FieldErrors::FromStatus(task.status())) {
      errors.Add(error.path.empty() ? "task" : error.path, error.message);
    }
  }
  CheckSlot(Task::kKind, "task", experiment.task(), errors);
  CheckSlot("backbone", "backbone", experiment.backbone(), errors);
  CheckSlot("pooling", "pooling", experiment.pooling(), errors);
  for (int i = 0; i < experiment.objectives_size(); ++i) {
    CheckSlot("objective", absl::StrCat("objectives[", i, "].objective"), experiment.objectives(i).objective(), errors);
  }
  return nullptr;
}

// Some samples, through their split's transforms: whether what comes out has the model's size shows only then. Broken
// samples are not the spec's mistake.
void CheckTransforms(const Dataset& dataset, const std::vector<std::unique_ptr<Transform>>& transforms,
                     const DataParts& parts, const char* path, FieldErrors& errors) {
  constexpr int64_t kSamples = 4;
  const int64_t samples = std::min(kSamples, dataset.size());
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t index = i * dataset.size() / samples;
    absl::StatusOr<Sample> sample = dataset.Read(index);
    if (!sample.ok()) continue;
    if (const EncodedImage* encoded = std::get_if<EncodedImage>(&sample->image)) {
      absl::StatusOr<Image> decoded = DecodeImage(encoded->bytes, parts.decode);
      if (!decoded.ok()) continue;
      sample->image = *std::move(decoded);
    }
    Image& image = std::get<Image>(sample->image);
    const Size2d before = image.size();
    Draws draws({static_cast<uint64_t>(index)});
    try {
      for (const auto& transform : transforms) transform->Apply(image, draws);
    } catch (...) {
      return errors.Add(path, CurrentExceptionToStatus(dataset.SampleName(index)));
    }
    if (image.size() == parts.image_size) continue;
    return errors.Add(
        path, absl::StrCat("make ", image.height, "×", image.width, " pixels of ", dataset.SampleName(index), " (",
                           before.height, "×", before.width, "), but data.image_size is ", parts.image_size.height, "×",
                           parts.image_size.width));
  }
}

}  // namespace

absl::Status CheckModel(const Experiment& experiment) {
  FieldErrors errors;
  errors.Add("", BuildEvalTransforms(experiment).status());
  CheckTask(experiment, {}, errors);
  return errors.ToStatus();
}

absl::StatusOr<DataParts> CheckExperiment(const Experiment& experiment, bool resumes) {
  FieldErrors errors;
  CheckName(experiment.name(), errors);
  CheckTrainerFields(experiment.trainer(), resumes, errors);
  CheckExpected(experiment, errors);
  auto data = BuildData(experiment);
  errors.Add("", data.status());
  if (data.ok()) {
    CheckTransforms(*data->train, data->train_transforms, *data, "data.train_transforms", errors);
    CheckTransforms(*data->val, data->eval_transforms, *data, "data.eval_transforms", errors);
  }
  const std::unique_ptr<Task> task =
      CheckTask(experiment, data.ok() ? data->train->class_names() : std::vector<std::string>(), errors);

  const Trainer& trainer = experiment.trainer();
  std::vector<TrainedParameter> parameters;
  if (task != nullptr) {
    errors.Add("trainer.best_metric", BestMetric(trainer, *task).status());
    auto trained = TrainedParameters(trainer, *task);
    errors.Add("", trained.status());
    if (trained.ok()) parameters = *std::move(trained);
    if (task->WantsTeacher() != experiment.has_teacher()) {
      errors.Add("teacher", experiment.has_teacher() ? "the task distils from none; see its field distillation"
                                                     : "must be given: the task distils from one");
    }
  } else {
    CheckParameterGroups(trainer, errors);
  }
  errors.Add("", CheckTeacher(experiment));
  errors.Add("trainer.optimizer", BuildOptimizer(experiment, parameters).status());
  Steps steps{.per_epoch = 1, .total = 1};
  if (data.ok() && trainer.batch_size() > 0) {
    if (data->train->size() < trainer.batch_size()) {
      errors.Add("trainer.batch_size", absl::StrCat(trainer.batch_size(), " is more than the data set's ",
                                                    data->train->size(), " training images"));
    } else {
      steps = CountSteps(trainer, data->train->size());
    }
  }
  // What a schedule would say of a peak that is wrong in itself helps nobody.
  if (trainer.learning_rate() > 0) {
    errors.Add("trainer.schedule", BuildSchedule(experiment, steps).status());
  } else {
    CheckSlot(Schedule::kKind, "trainer.schedule", trainer.schedule(), errors);
  }
  for (int i = 0; i < trainer.sinks_size(); ++i) {
    errors.Add(absl::StrCat("trainer.sinks[", i, "]"), CheckPluginType(Sink::kKind, AnyTypeName(trainer.sinks(i))));
  }
  if (!errors.empty()) return errors.ToStatus();
  return data;
}

}  // namespace graticule
