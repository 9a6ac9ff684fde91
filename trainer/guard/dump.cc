#include "trainer/guard/dump.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ATen/ops/tensor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

constexpr char kState[] = "dump.textproto";
constexpr char kReport[] = "report.txt";
constexpr char kBatch[] = "batch.safetensors";
constexpr char kModel[] = "model.safetensors";
constexpr char kObjectives[] = "objectives.safetensors";
constexpr char kTemporary[] = ".tmp";
constexpr size_t kKeptNewest = 2;  // besides the first

// The tensors of a batch, by their names in the file.
constexpr std::pair<const char*, at::Tensor Batch::*> kTensors[] = {
    {"images", &Batch::images},
    {"labels", &Batch::labels},
    {"soft_labels", &Batch::soft_labels},
    {"teacher_logits", &Batch::teacher_logits},
};
constexpr char kIndices[] = "indices";

absl::Status Remove(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove '", path, "'"));
  return absl::OkStatus();
}

Safetensors BatchTensors(const std::vector<Batch>& batches) {
  Safetensors contents;
  for (size_t part = 0; part < batches.size(); ++part) {
    const Batch& batch = batches[part];
    for (const auto& [name, member] : kTensors) {
      if ((batch.*member).defined()) contents.tensors.emplace_back(absl::StrCat(part, ".", name), batch.*member);
    }
    contents.tensors.emplace_back(absl::StrCat(part, ".", kIndices), at::tensor(batch.indices, at::kLong));
  }
  return contents;
}

absl::StatusOr<std::vector<Batch>> BatchesOf(const Safetensors& contents) {
  std::vector<Batch> batches;
  while (contents.Find(absl::StrCat(batches.size(), ".images")).defined()) {
    const std::string prefix = absl::StrCat(batches.size(), ".");
    Batch& batch = batches.emplace_back();
    for (const auto& [name, member] : kTensors) batch.*member = contents.Find(prefix + name);
    const at::Tensor indices = contents.Find(prefix + kIndices);
    if (batch.images.dim() != 4) return absl::DataLossError(absl::StrCat(prefix, "images is not [B,3,H,W]"));
    if (!batch.labels.defined()) return absl::DataLossError(absl::StrCat(prefix, "labels is missing"));
    if (!indices.defined() || indices.scalar_type() != at::kLong) {
      return absl::DataLossError(absl::StrCat(prefix, kIndices, " is missing or no int64"));
    }
    batch.images = batch.images.contiguous(at::MemoryFormat::ChannelsLast);
    const int64_t* begin = indices.const_data_ptr<int64_t>();
    batch.indices.assign(begin, begin + indices.numel());
  }
  if (batches.empty()) return absl::DataLossError("0.images is missing");
  return batches;
}

// NaN has a sign that nobody wants to see.
std::string Number(double value) { return std::isnan(value) ? "nan" : absl::StrCat(value); }

// For a reader.
std::string Report(const Dump& dump, const std::string& folder) {
  const DumpState& state = dump.state;
  std::string text =
      absl::StrFormat("Step %d of rank %d of %d: loss %s, gradient norm %s\n", state.step(), state.rank(),
                      state.world_size(), Number(state.loss()), Number(state.gradient_norm()));
  absl::StrAppend(&text, state.cause().empty() ? "What went wrong first was not found." : state.cause(), "\n\n");
  absl::StrAppendFormat(&text, "learning rate %g; %.2f %% of the training were over; precision %s",
                        state.learning_rate(), 100 * state.progress(), Trainer::Precision_Name(state.precision()));
  if (state.loss_scale() > 0) absl::StrAppendFormat(&text, "; loss scale %g", state.loss_scale());
  absl::StrAppend(&text, "\n\nComputes it again:\n  graticule replay ", folder, "\n\nImages:\n");
  int sample = 0;
  for (size_t part = 0; part < dump.batches.size(); ++part) {
    const Batch& batch = dump.batches[part];
    const at::Tensor labels = batch.labels.to(at::kCPU);
    for (int64_t i = 0; i < batch.size(); ++i, ++sample) {
      absl::StrAppendFormat(&text, "  part %d, %d: sample %d", part, i, batch.indices[i]);
      if (sample < state.samples_size()) absl::StrAppend(&text, ", ", state.samples(sample));
      if (labels.dim() == 1) absl::StrAppend(&text, ", label ", labels[i].item<int64_t>());
      absl::StrAppend(&text, "\n");
    }
  }
  return text;
}

absl::Status WriteFolder(const std::string& folder, const Dump& dump, const std::string& report) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make '", folder, "'"));
  RETURN_IF_ERROR(WriteSafetensors(folder + "/" + kBatch, BatchTensors(dump.batches)));
  RETURN_IF_ERROR(WriteSafetensors(folder + "/" + kModel, dump.model));
  if (!dump.objectives.tensors.empty()) {
    RETURN_IF_ERROR(WriteSafetensors(folder + "/" + kObjectives, dump.objectives));
  }
  std::string state;
  CHECK(google::protobuf::TextFormat::PrintToString(dump.state, &state));
  RETURN_IF_ERROR(WriteFile(folder + "/" + kState, state));
  RETURN_IF_ERROR(WriteFile(folder + "/" + kReport, report));
  return SyncFolder(folder);
}

// Of a rank: all dumps but the first and the newest, and what half-written ones left behind.
absl::Status Prune(const std::string& dumps, int rank) {
  const std::string suffix = absl::StrCat("-rank", rank);
  std::vector<std::pair<int64_t, std::string>> found;
  std::vector<std::string> superfluous;
  std::error_code error;
  for (fs::directory_iterator entry(dumps, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name.ends_with(suffix + kTemporary)) superfluous.push_back(entry->path());
    int64_t step;
    if (name.starts_with("step-") && name.ends_with(suffix) &&
        absl::SimpleAtoi(name.substr(5, name.size() - 5 - suffix.size()), &step)) {
      found.emplace_back(step, entry->path());
    }
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list '", dumps, "'"));
  std::sort(found.begin(), found.end());
  for (size_t i = 1; i + kKeptNewest < found.size(); ++i) superfluous.push_back(found[i].second);
  for (const std::string& path : superfluous) RETURN_IF_ERROR(Remove(path));
  return absl::OkStatus();
}

absl::Status ParseText(const std::string& text, DumpState& state) {
  // The parser's own way to report is the program's standard error.
  class FirstError : public google::protobuf::io::ErrorCollector {
   public:
    void AddError(int line, int column, const std::string& what) override {
      if (message.empty()) message = absl::StrCat("line ", line + 1, ": ", what);
    }
    std::string message;
  } error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  return parser.ParseFromString(text, &state) ? absl::OkStatus() : absl::DataLossError(error.message);
}

}  // namespace

absl::StatusOr<std::string> WriteDump(const std::string& run_directory, const Dump& dump) {
  const std::string dumps = run_directory + "/dumps";
  const std::string folder = absl::StrFormat("%s/step-%06d-rank%d", dumps, dump.state.step(), dump.state.rank());
  const std::string temporary = folder + kTemporary;
  RETURN_IF_ERROR(Remove(temporary));
  absl::Status status = WriteFolder(temporary, dump, Report(dump, folder));
  if (status.ok()) status = Remove(folder);
  if (status.ok() && std::rename(temporary.c_str(), folder.c_str()) != 0) status = ErrnoStatus("write", folder);
  if (!status.ok()) {
    const absl::Status ignored = Remove(temporary);
    return status;
  }
  RETURN_IF_ERROR(SyncFolder(dumps));
  RETURN_IF_ERROR(Prune(dumps, dump.state.rank()));
  return folder;
}

absl::StatusOr<Dump> ReadDump(const std::string& folder) {
  const auto text = ReadFile(folder + "/" + kState);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(absl::StrCat("'", folder, "' is no dump: it has no ", kState));
  }
  RETURN_IF_ERROR(text.status());
  Dump dump;
  RETURN_IF_ERROR(ParseText(*text, dump.state), absl::StrCat("'", folder, "/", kState, "' is damaged"));
  ASSIGN_OR_RETURN(const Safetensors batch, ReadSafetensors(folder + "/" + kBatch));
  ASSIGN_OR_RETURN(dump.batches, BatchesOf(batch), absl::StrCat("'", folder, "/", kBatch, "' is damaged"));
  ASSIGN_OR_RETURN(dump.model, ReadSafetensors(folder + "/" + kModel));
  std::error_code error;
  if (const std::string path = folder + "/" + kObjectives; fs::exists(path, error)) {
    ASSIGN_OR_RETURN(dump.objectives, ReadSafetensors(path));
  }
  return dump;
}

}  // namespace graticule
