#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "app/command.h"
#include "nn/size2d.h"
#include "plugin/status.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
#include "trainer/guard/dump.h"
#include "trainer/guard/non_finite.h"
#include "trainer/optimizers/parameter_groups.h"
#include "trainer/parts.h"
#include "trainer/step.h"
#include "trainer/teacher.h"

namespace graticule {
namespace {

struct Arguments {
  std::string dump;
  SpecArguments spec;
  Trainer::Precision precision = Trainer::PRECISION_UNSPECIFIED;  // unspecified: the dump's
};

absl::Status Replay(Arguments arguments) {
  ASSIGN_OR_RETURN(const Dump dump, ReadDump(arguments.dump));
  // RUN/dumps/step-000123-rank0
  if (arguments.spec.path.empty()) arguments.spec.path = arguments.dump + "/../..";
  ASSIGN_OR_RETURN(const Spec spec, arguments.spec.LoadForModel());
  const DumpState& state = dump.state;
  Experiment experiment = spec.experiment();
  Trainer& trainer = *experiment.mutable_trainer();
  trainer.set_seed(state.seed());
  trainer.set_accumulation_steps(static_cast<int>(dump.batches.size()));
  trainer.set_precision(arguments.precision == Trainer::PRECISION_UNSPECIFIED ? state.precision()
                                                                              : arguments.precision);
  SetThreads(trainer);
  SetTf32(trainer);
  ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(trainer));

  ASSIGN_OR_RETURN(const DataParts data, BuildEvalTransforms(experiment));
  const Size2d size = data.image_size;
  const at::Tensor& first = dump.batches[0].images;
  if (first.size(2) != size.height || first.size(3) != size.width) {
    return absl::FailedPreconditionError(absl::StrCat("the dump's images are ", first.size(2), "×", first.size(3),
                                                      ", but data.image_size is ", size.height, "×", size.width));
  }

  const std::vector<std::string> classes = ClassNames(experiment, dump.model);
  ASSIGN_OR_RETURN(const std::unique_ptr<Task> task, BuildTask(experiment, classes));
  RETURN_IF_ERROR(LoadByName(dump.model, ModelTensors(*task)), "the dump's model");
  RETURN_IF_ERROR(LoadByName(dump.objectives, ObjectiveTensors(*task)), "the dump's objectives");
  task->To(device);
  std::unique_ptr<TeacherModel> teacher;
  if (experiment.has_teacher() && !dump.batches[0].teacher_logits.defined()) {
    ASSIGN_OR_RETURN(teacher, BuildTeacher(experiment, classes, device));
  }
  ASSIGN_OR_RETURN(const std::vector<TrainedParameter> parameters, TrainedParameters(trainer, *task));
  ASSIGN_OR_RETURN(const std::unique_ptr<Optimizer> optimizer, BuildOptimizer(experiment, parameters));
  const Normalizer normalize(experiment.data(), device);
  TrainingStep step(trainer, {.normalize = normalize,
                              .device = device,
                              .task = *task,
                              .parameters = parameters,
                              .optimizer = *optimizer,
                              .teacher = teacher.get(),
                              .place = {.rank = state.rank(), .world_size = state.world_size()}});

  const double loss_scale = trainer.precision() == Trainer::FP16 && state.loss_scale() > 0 ? state.loss_scale() : 1;
  const auto forward = [&](int part) {
    return step.Forward(dump.batches[part], state.step(), part, state.progress()).loss;
  };
  ASSIGN_OR_RETURN(const Diagnosis diagnosis, FindNonFinite(*task, dump.batches, forward, loss_scale));

  int64_t images = 0;
  for (const Batch& batch : dump.batches) images += batch.size();
  std::cout << "step " << state.step() << " of rank " << state.rank() << " of " << state.world_size() << ": " << images
            << " images in " << dump.batches.size() << (dump.batches.size() == 1 ? " part" : " parts")
            << ", learning rate " << state.learning_rate() << "\n"
            << "in training, " << PrecisionName(state.precision()) << ":\n"
            << Diagnosis{.cause = state.cause().empty() ? "what went wrong first was not found" : state.cause(),
                         .loss = state.loss(),
                         .gradient_norm = state.gradient_norm()}
                   .ToString()
            << "now, " << PrecisionName(trainer.precision()) << " on " << device.str() << ":\n"
            << diagnosis.ToString();
  return absl::OkStatus();
}

}  // namespace

void AddReplay(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("replay", "Compute a bad step again from its dump, and say where it went wrong");
  command
      ->add_option("DUMP", arguments->dump,
                   "A folder that a training has left, such as runs/NAME/dumps/step-000123-rank0")
      ->required();
  command->add_option("--spec", arguments->spec.path, "The experiment, where it is not that of the run directory")
      ->type_name("FILE");
  command
      ->add_option("--set", arguments->spec.overrides,
                   "Override a field: --set trainer.device=CPU --set trainer.activation_checkpointing=false")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
  command->add_option("--precision", arguments->precision, "fp32, bf16 or fp16 [that of the training]")
      ->type_name("NAME")
      ->transform(PrecisionByName());
  command->callback([arguments, &action] { action = [arguments] { return Replay(*arguments); }; });
}

}  // namespace graticule
