#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/cat.h"
#include "ATen/ops/from_blob.h"
#include "ATen/ops/softmax.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/command.h"
#include "c10/core/GradMode.h"
#include "data/decode/decode.h"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "trainer/device.h"
#include "trainer/parts.h"

namespace graticule {
namespace {

struct Arguments {
  SpecArguments spec;
  CheckpointArguments checkpoint;
  std::vector<std::string> images;
  std::string tensors;
  std::string output;
  int top_k = 5;
  bool tokens = false;
  bool objectives = false;
};

// A loaded model, ready to predict.
struct Model {
  c10::Device device = c10::kCPU;
  std::unique_ptr<Task> task;
  Trainer::Precision precision;

  std::map<std::string, at::Tensor> Predict(const at::Tensor& images, const PredictOptions& options) const {
    c10::NoGradGuard no_grad;
    const AutocastScope autocast(precision, device);
    return task->Predict(images.to(device), options);
  }
};

// The images in folders, in sorted order, and files as they are.
absl::StatusOr<std::vector<std::string>> ListImages(const std::vector<std::string>& paths) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      std::vector<std::string> found;
      for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
        if (it->is_regular_file() && HasImageExtension(it->path())) found.push_back(it->path().string());
      }
      if (error) return absl::UnavailableError(absl::StrCat(path, ": ", error.message()));
      std::sort(found.begin(), found.end());
      files.insert(files.end(), found.begin(), found.end());
    } else {
      files.push_back(path);
    }
  }
  if (files.empty()) return absl::NotFoundError("no images in the folders given");
  return files;
}

absl::StatusOr<at::Tensor> ReadImage(const std::string& path, const DataParts& data, const Normalizer& normalize) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(Image image, DecodeImage(bytes, data.decode), path);
  Draws draws({0});
  for (const auto& transform : data.eval_transforms) transform->Apply(image, draws);
  if (image.height != data.image_size.height || image.width != data.image_size.width) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": is ", image.height, "×", image.width,
                                                      " after data.eval_transforms; the model wants ",
                                                      data.image_size.height, "×", data.image_size.width));
  }
  const at::Tensor pixels = at::from_blob(image.pixels.data(), {1, image.height, image.width, 3}, at::kByte);
  return normalize(pixels.permute({0, 3, 1, 2}));
}

absl::Status PredictImages(const std::vector<std::string>& files, int top_k, const Experiment& experiment,
                           const Model& model, const std::vector<std::string>& class_names, std::ostream& output) {
  ASSIGN_OR_RETURN(const DataParts data, BuildEvalTransforms(experiment));
  const Normalizer normalize(experiment.data(), model.device);
  output << "path,rank,class,score\n";
  int64_t failed = 0;
  for (const std::string& file : files) {
    const auto image = ReadImage(file, data, normalize);
    if (!image.ok()) {
      LOG(WARNING) << "skipped " << image.status().message();
      ++failed;
      continue;
    }
    const at::Tensor scores = at::softmax(model.Predict(*image, {}).at("logits").to(at::kFloat), 1).cpu();
    // A checkpoint of other classes leaves the spec's classes without names.
    const bool named = static_cast<int64_t>(class_names.size()) == scores.size(1);
    const int64_t k = std::min<int64_t>(top_k, scores.size(1));
    const auto [values, classes] = scores.topk(k, 1);
    for (int64_t rank = 0; rank < k; ++rank) {
      const int64_t label = classes.const_data_ptr<int64_t>()[rank];
      output << CsvField(file) << "," << rank + 1 << "," << CsvField(named ? class_names[label] : absl::StrCat(label))
             << "," << absl::StrFormat("%.6f", values.const_data_ptr<float>()[rank]) << "\n";
    }
  }
  if (failed > 0) {
    return absl::DataLossError(
        absl::StrCat(failed, " of ", files.size(), " images could not be read; they are named above"));
  }
  return absl::OkStatus();
}

absl::Status PredictTensors(const Arguments& arguments, const Experiment& experiment, const Model& model) {
  ASSIGN_OR_RETURN(const Safetensors input, ReadSafetensors(arguments.tensors));
  const at::Tensor images = input.Find("images");
  ASSIGN_OR_RETURN(const DataParts data, BuildEvalTransforms(experiment));
  const Size2d size = data.image_size;
  if (!images.defined() || images.dim() != 4 || images.size(1) != 3 || images.size(2) != size.height ||
      images.size(3) != size.width || images.size(0) == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(arguments.tensors, ": needs a tensor 'images' of shape [B,3,", size.height, ",", size.width, "], ",
                     images.defined() ? absl::StrCat("found [", absl::StrJoin(images.sizes(), ","), "]")
                                      : "found none of this name"));
  }
  // Labels of pairs are large: 100 MB an image and more at 14×14.
  const int64_t batch_size = arguments.objectives ? 1 : std::max(1, experiment.trainer().batch_size());
  const PredictOptions options{.tokens = arguments.tokens, .objectives = arguments.objectives};
  std::map<std::string, std::vector<at::Tensor>> parts;
  for (int64_t begin = 0; begin < images.size(0); begin += batch_size) {
    const at::Tensor batch = images.narrow(0, begin, std::min(batch_size, images.size(0) - begin)).to(at::kFloat);
    for (const auto& [name, tensor] : model.Predict(batch, options)) {
      parts[name].push_back(tensor.to(at::kFloat).cpu());
    }
  }
  Safetensors results;
  for (const auto& [name, tensors] : parts) results.tensors.emplace_back(name, at::cat(tensors));
  RETURN_IF_ERROR(WriteSafetensors(arguments.output, results));
  std::cerr << "wrote " << arguments.output << "\n";
  return absl::OkStatus();
}

absl::Status Predict(Arguments arguments) {
  if (arguments.images.empty() == arguments.tensors.empty()) {
    return UsageError("give either --images=PATH… or --tensors=FILE");
  }
  if (!arguments.tensors.empty() && arguments.output.empty()) {
    return UsageError("--tensors needs --output=FILE, the safetensors file to write");
  }
  if (arguments.tokens && arguments.tensors.empty()) {
    return UsageError("--tokens goes with --tensors");
  }
  if (arguments.objectives && arguments.tensors.empty()) {
    return UsageError("--with-objectives goes with --tensors");
  }
  RETURN_IF_ERROR(arguments.checkpoint.CompleteFrom(arguments.spec));
  ASSIGN_OR_RETURN(const Spec spec, arguments.spec.LoadForModel());
  const Experiment& experiment = spec.experiment();
  if (arguments.objectives && experiment.objectives().empty()) {
    return UsageError(absl::StrCat("--with-objectives: ", arguments.spec.path, " has no objectives"));
  }
  ASSIGN_OR_RETURN(const Safetensors weights, arguments.checkpoint.Read());
  const std::vector<std::string> class_names = ClassNames(experiment, weights);
  SetThreads(experiment.trainer());
  SetTf32(experiment.trainer());
  Model model{.precision = experiment.trainer().precision()};
  ASSIGN_OR_RETURN(model.device, ChooseDevice(experiment.trainer()));
  ASSIGN_OR_RETURN(model.task, BuildTask(experiment, class_names));
  RETURN_IF_ERROR(arguments.checkpoint.LoadInto(*model.task, weights, arguments.objectives));
  model.task->To(model.device);
  model.task->SetTraining(false);

  if (!arguments.tensors.empty()) return PredictTensors(arguments, experiment, model);
  // Before the output is touched.
  ASSIGN_OR_RETURN(const std::vector<std::string> files, ListImages(arguments.images));
  const auto predict = [&](std::ostream& output) {
    return PredictImages(files, arguments.top_k, experiment, model, class_names, output);
  };
  if (arguments.output.empty()) return predict(std::cout);
  std::ofstream file(arguments.output);
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", arguments.output));
  const absl::Status status = predict(file);
  file.flush();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", arguments.output));
  return status;
}

}  // namespace

void AddPredict(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("predict", "Classify images, or run a model on tensors");
  arguments->spec.AddTo(*command);
  arguments->checkpoint.AddTo(*command);
  command->add_option("--images", arguments->images, "Images, or folders of them: gives CSV (path, rank, class, score)")
      ->type_name("PATH…")
      ->check(kExisting);
  command
      ->add_option("--tensors", arguments->tensors,
                   "A safetensors file with 'images' [B,3,H,W], normalised already: gives one with 'logits' [B,K]")
      ->type_name("FILE")
      ->check(kExisting);
  command->add_option("--output", arguments->output, "File to write [CSV: standard output]")->type_name("FILE");
  command->add_option("--top-k", arguments->top_k, "Classes listed for an image")
      ->capture_default_str()
      ->check(kPositive);
  command->add_flag("--tokens", arguments->tokens, "Write 'tokens' [B,T,D] too");
  command->add_flag("--with-objectives", arguments->objectives,
                    "Write 'NAME/logits' too, what the head of each objective says (apl/logits [B,N,N])");
  command->callback([arguments, &action] { action = [arguments] { return Predict(*arguments); }; });
}

}  // namespace graticule
