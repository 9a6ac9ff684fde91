// Builds what an experiment names, and finds every mistake in it that can be found without training.
#ifndef GRATICULE_TRAINER_PARTS_H_
#define GRATICULE_TRAINER_PARTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/batch_transforms/batch_transform.h"
#include "data/datasets/dataset.h"
#include "data/decode/decode.h"
#include "data/loader/loader.h"
#include "data/transforms/transform.h"
#include "nn/token_map.h"
#include "tasks/task.h"
#include "trainer/experiment.pb.h"
#include "trainer/optimizers/optimizer.h"
#include "trainer/schedules/schedule.h"

namespace graticule {

// Of the loader: the field, or one a core and at most 16 where it is absent; of `processes` on this machine, a share of
// the cores.
int LoaderThreads(const Data& data, int processes = 1);

// Which of the processes of a training this is.
struct ProcessPlace {
  int rank = 0;        // of all
  int world_size = 1;  // how many there are
  int local_rank = 0;  // of those on this machine
  int local_size = 1;  // how many these are
};

// The data side of an experiment.
struct DataParts {
  Size2d image_size;
  std::unique_ptr<Dataset> train, val;
  std::vector<std::unique_ptr<Transform>> train_transforms, eval_transforms;
  std::vector<std::unique_ptr<BatchTransform>> batch_transforms;  // training's
  DecodeOptions decode;

  // Loaders over them, as the experiment's data and trainer fields say. The parts outlive them.
  // Each process gets its part of a batch.
  std::unique_ptr<Loader> TrainLoader(const Experiment& experiment, const ProcessPlace& place = {}) const;
  std::unique_ptr<Loader> EvalLoader(const Experiment& experiment, const ProcessPlace& place = {}) const;
};

// Every mistake of an experiment that needs no training to be found, as FieldErrors with the spec's field paths. Opens
// the data set, which is returned where all is well, so that it need not be opened twice; makes no weights (the model
// is built on the meta device) and writes nothing. Of a training that `resumes` the initial_checkpoint, which it does
// not read, may be gone.
absl::StatusOr<DataParts> CheckExperiment(const Experiment& experiment, bool resumes = false);
// Those of the model alone and of what it needs to predict: the data set may be absent.
absl::Status CheckModel(const Experiment& experiment);

absl::StatusOr<DataParts> BuildData(const Experiment& experiment);
// The transforms and image size alone: for images that come from elsewhere than the data set.
absl::StatusOr<DataParts> BuildEvalTransforms(const Experiment& experiment);

// The task with fresh weights on the CPU, a function of trainer.seed; shapes only inside a MetaScope.
absl::StatusOr<std::unique_ptr<Task>> BuildTask(const Experiment& experiment,
                                                const std::vector<std::string>& class_names);

// `parameters` are those that are trained (trainer/optimizers/parameter_groups.h).
absl::StatusOr<std::unique_ptr<Optimizer>> BuildOptimizer(const Experiment& experiment,
                                                          const std::vector<TrainedParameter>& parameters);

// Forward and backward passes of an optimizer step: the field, or 1 where it is absent.
int AccumulationSteps(const Trainer& trainer);
// Images of one such pass in one process.
int ImagesOfAPass(const Trainer& trainer, int world_size);

// Before the names of the metrics of a validation, of the model and of its moving average.
inline constexpr char kValidation[] = "val/", kValidationOfEma[] = "val_ema/";

// The metric by which validations are compared: trainer.best_metric, else the task's first.
absl::StatusOr<std::string> BestMetric(const Trainer& trainer, const Task& task);

// Optimizer steps of an epoch and of the whole training, given the training set's size.
struct Steps {
  int64_t per_epoch = 0;
  int64_t total = 0;
};
Steps CountSteps(const Trainer& trainer, int64_t train_size);

absl::StatusOr<std::unique_ptr<Schedule>> BuildSchedule(const Experiment& experiment, const Steps& steps);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_PARTS_H_
