#include "trainer/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "nn/weights_file.h"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

constexpr char kManifest[] = "manifest.textproto";
constexpr char kState[] = "state.textproto";
constexpr char kModel[] = "model.safetensors";
constexpr char kObjectives[] = "objectives.safetensors";
constexpr char kEma[] = "ema.safetensors";
// A folder or link of this ending is half-made or half-removed.
constexpr char kTemporary[] = ".tmp";

// The tensors of a checkpoint and the files that hold them.
constexpr std::pair<const char*, Safetensors Checkpoint::*> kTensorFiles[] = {
    {kModel, &Checkpoint::model},
    {kObjectives, &Checkpoint::objectives},
    {kEma, &Checkpoint::ema},
    {"optimizer.safetensors", &Checkpoint::optimizer},
};

std::string CheckpointsFolder(const std::string& run_directory) { return run_directory + "/checkpoints"; }

std::string StepName(int64_t step) { return absl::StrFormat("step-%06d", step); }

std::string Sha256(std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CHECK_EQ(EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr), 1);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), size});
}

// Removes a file, or a folder with all that is in it, if it is there.
absl::Status Remove(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove '", path, "'"));
  return absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    return ErrnoStatus(absl::StrCat("rename to '", to, "'"), from);
  }
  return absl::OkStatus();
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Gives a finished folder its name. One that has the name already is left under `temporary`.
absl::Status MoveIntoPlace(const std::string& temporary, const std::string& folder) {
  if (!Exists(folder)) return Rename(temporary, folder);
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) return absl::OkStatus();
  // Network file systems can't exchange two names.
  if (errno != EINVAL && errno != ENOSYS) return ErrnoStatus("replace", folder);
  RETURN_IF_ERROR(Remove(folder));
  return Rename(temporary, folder);
}

template <typename Message>
absl::Status ParseText(const std::string& text, Message& message) {
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
  if (!parser.ParseFromString(text, &message)) return absl::DataLossError(error.message);
  return absl::OkStatus();
}

std::string PrintText(const google::protobuf::Message& message) {
  std::string text;
  CHECK(google::protobuf::TextFormat::PrintToString(message, &text));
  return text;
}

const Manifest::File* FindFile(const Manifest& manifest, std::string_view name) {
  for (const Manifest::File& file : manifest.files()) {
    if (file.name() == name) return &file;
  }
  return nullptr;
}

absl::StatusOr<Manifest> ReadManifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifest;
  const auto text = ReadFile(path);
  if (absl::IsNotFound(text.status())) {
    return absl::DataLossError(absl::StrCat("'", folder, "' is no whole checkpoint: it has no ", kManifest));
  }
  RETURN_IF_ERROR(text.status());
  Manifest manifest;
  RETURN_IF_ERROR(ParseText(*text, manifest), absl::StrCat("'", path, "' is damaged"));
  // A manifest that was cut after an entry would hide files.
  std::vector<std::string> names = {kState};
  for (const auto& [name, member] : kTensorFiles) names.push_back(name);
  for (const std::string& name : names) {
    const bool required = name == kState || name == kModel || Exists(folder + "/" + name);
    if (required && FindFile(manifest, name) == nullptr) {
      return absl::DataLossError(absl::StrCat("'", path, "' is damaged: it does not list ", name));
    }
  }
  return manifest;
}

// The bytes of a file that are those that were written.
absl::StatusOr<std::string> ReadVerified(const std::string& folder, const Manifest::File& file) {
  const std::string path = folder + "/" + file.name();
  auto bytes = ReadFile(path);
  if (absl::IsNotFound(bytes.status())) return absl::DataLossError(absl::StrCat("'", path, "' is missing"));
  RETURN_IF_ERROR(bytes.status());
  if (static_cast<int64_t>(bytes->size()) != file.size()) {
    return absl::DataLossError(
        absl::StrCat("'", path, "' is damaged: it has ", bytes->size(), " bytes instead of ", file.size()));
  }
  if (Sha256(*bytes) != file.sha256()) {
    return absl::DataLossError(absl::StrCat("'", path,
                                            "' is damaged: its bytes have changed since it was written "
                                            "(SHA-256 differs from the manifest's)"));
  }
  return bytes;
}

// Step folders, the newest first, with their steps.
absl::StatusOr<std::vector<std::pair<int64_t, std::string>>> StepFolders(const std::string& checkpoints) {
  std::vector<std::pair<int64_t, std::string>> folders;
  if (!Exists(checkpoints)) return folders;
  std::error_code error;
  for (fs::directory_iterator entry(checkpoints, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    int64_t step;
    if (name.starts_with("step-") && absl::SimpleAtoi(name.substr(5), &step) && name == StepName(step)) {
      folders.emplace_back(step, entry->path());
    }
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list '", checkpoints, "'"));
  std::sort(folders.rbegin(), folders.rend());
  return folders;
}

// Points checkpoints/last to a step folder, in one step.
absl::Status SetLast(const std::string& checkpoints, const std::string& name) {
  const std::string last = checkpoints + "/last";
  const std::string temporary = last + kTemporary;
  RETURN_IF_ERROR(Remove(temporary));
  if (symlink(name.c_str(), temporary.c_str()) != 0) return ErrnoStatus("link", last);
  RETURN_IF_ERROR(Rename(temporary, last));
  return SyncFolder(checkpoints);
}

// All files of a checkpoint, the manifest last, into a folder that is made.
absl::Status WriteFolder(const std::string& folder, const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(Remove(folder));
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make '", folder, "'"));
  Manifest manifest;
  const auto write = [&](const std::string& name, const std::string& bytes) {
    Manifest::File* file = manifest.add_files();
    file->set_name(name);
    file->set_size(static_cast<int64_t>(bytes.size()));
    file->set_sha256(Sha256(bytes));
    return WriteFile(folder + "/" + name, bytes);
  };
  for (const auto& [name, member] : kTensorFiles) {
    Safetensors contents = checkpoint.*member;
    if (contents.tensors.empty() && name != std::string_view(kModel)) continue;
    if (name == std::string_view(kEma))
      contents.metadata.insert(checkpoint.model.metadata.begin(), checkpoint.model.metadata.end());
    RETURN_IF_ERROR(write(name, SerializeSafetensors(contents)));
  }
  RETURN_IF_ERROR(write(kState, PrintText(checkpoint.state)));
  RETURN_IF_ERROR(WriteFile(folder + "/" + kManifest, PrintText(manifest)));
  return SyncFolder(folder);
}

// The step folder that a folder stands for: itself, or a run directory's last.
absl::StatusOr<std::string> FindStepFolder(const std::string& path) {
  if (Exists(path + "/" + kManifest)) return path;
  const std::string last = CheckpointsFolder(path) + "/last";
  if (Exists(last)) return last;
  return absl::NotFoundError(absl::StrCat("the folder '", path,
                                          "' has no checkpoint: neither checkpoints/last, as a run ",
                                          "directory has it, nor ", kManifest, ", as a step folder has it"));
}

absl::StatusOr<Safetensors> ReadFolderWeights(const std::string& folder, bool ema) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(folder));
  const Manifest::File* file = ema ? FindFile(manifest, kEma) : nullptr;
  if (file == nullptr) file = FindFile(manifest, kModel);
  ASSIGN_OR_RETURN(const std::string bytes, ReadVerified(folder, *file));
  ASSIGN_OR_RETURN(Safetensors weights, ParseSafetensors(bytes));
  if (const Manifest::File* objectives = FindFile(manifest, kObjectives); objectives != nullptr) {
    ASSIGN_OR_RETURN(const std::string more_bytes, ReadVerified(folder, *objectives));
    ASSIGN_OR_RETURN(const Safetensors more, ParseSafetensors(more_bytes));
    for (const auto& [name, tensor] : more.tensors) weights.tensors.emplace_back(kObjectivesPrefix + name, tensor);
  }
  return weights;
}

absl::StatusOr<Safetensors> ReadFileWeights(const std::string& path, bool ema) {
  // Of a file in a step folder it is known what it should be.
  const fs::path folder = fs::path(path).parent_path();
  if (Exists(folder / kManifest)) {
    ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(folder));
    if (const Manifest::File* file = FindFile(manifest, fs::path(path).filename().string()); file != nullptr) {
      RETURN_IF_ERROR(ReadVerified(folder, *file).status());
    }
  }
  return ReadWeightsFile(path, ema);
}

}  // namespace

absl::Status SaveCheckpoint(const std::string& run_directory, const Checkpoint& checkpoint) {
  const std::string checkpoints = CheckpointsFolder(run_directory);
  const std::string name = StepName(checkpoint.state.step());
  const std::string folder = checkpoints + "/" + name;
  const std::string temporary = folder + kTemporary;
  const std::string context = absl::StrCat("cannot save the checkpoint of step ", checkpoint.state.step());
  std::error_code error;
  fs::create_directories(checkpoints, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(context, ": cannot make '", checkpoints, "'"));
  RETURN_IF_ERROR(SyncFolder(run_directory), context);

  absl::Status status = WriteFolder(temporary, checkpoint);
  if (status.ok()) status = MoveIntoPlace(temporary, folder);
  if (status.ok()) status = SyncFolder(checkpoints);
  const absl::Status removed = Remove(temporary);
  RETURN_IF_ERROR(status, context);
  RETURN_IF_ERROR(removed, context);
  return Annotate(SetLast(checkpoints, name), context);
}

absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& folder) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(folder));
  Checkpoint checkpoint;
  for (const auto& [name, member] : kTensorFiles) {
    const Manifest::File* file = FindFile(manifest, name);
    if (file == nullptr) continue;
    ASSIGN_OR_RETURN(const std::string bytes, ReadVerified(folder, *file));
    ASSIGN_OR_RETURN(checkpoint.*member, ParseSafetensors(bytes), absl::StrCat("'", folder, "/", name, "'"));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadVerified(folder, *FindFile(manifest, kState)));
  RETURN_IF_ERROR(ParseText(text, checkpoint.state), absl::StrCat("'", folder, "/", kState, "'"));
  return checkpoint;
}

absl::StatusOr<std::optional<Checkpoint>> LoadNewestCheckpoint(const std::string& run_directory,
                                                               const std::function<void(const std::string&)>& report) {
  const std::string checkpoints = CheckpointsFolder(run_directory);
  ASSIGN_OR_RETURN(const auto folders, StepFolders(checkpoints));
  for (const auto& [step, folder] : folders) {
    auto checkpoint = LoadCheckpoint(folder);
    if (checkpoint.ok()) {
      if (folder != folders.front().second) {
        const absl::Status linked = SetLast(checkpoints, StepName(step));
        if (!linked.ok()) report(std::string(linked.message()));
      }
      return std::optional<Checkpoint>(*std::move(checkpoint));
    }
    // Files that can't be read are no proof of damage.
    if (!absl::IsDataLoss(checkpoint.status())) return checkpoint.status();
    const std::string aside = folder + ".damaged";
    absl::Status moved = Remove(aside);
    if (moved.ok()) moved = Rename(folder, aside);
    report(absl::StrCat(std::string(checkpoint.status().message()), "; ",
                        moved.ok() ? absl::StrCat("set aside as '", aside, "'") : std::string(moved.message())));
  }
  return std::optional<Checkpoint>();
}

absl::Status PruneCheckpoints(const std::string& run_directory, int keep, std::optional<int64_t> best) {
  const std::string checkpoints = CheckpointsFolder(run_directory);
  ASSIGN_OR_RETURN(const auto folders, StepFolders(checkpoints));
  for (size_t i = std::max(keep, 1); i < folders.size(); ++i) {
    const auto& [step, folder] = folders[i];
    // Under its own name it would look damaged if removing it were cut short.
    if (step == best) continue;
    RETURN_IF_ERROR(Remove(folder + kTemporary));
    RETURN_IF_ERROR(Rename(folder, folder + kTemporary));
  }
  if (!Exists(checkpoints)) return absl::OkStatus();
  std::vector<std::string> leftovers;
  std::error_code error;
  for (fs::directory_iterator entry(checkpoints, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == kTemporary) leftovers.push_back(entry->path());
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list '", checkpoints, "'"));
  for (const std::string& path : leftovers) RETURN_IF_ERROR(Remove(path));
  return absl::OkStatus();
}

absl::StatusOr<Safetensors> ReadWeights(const std::string& path, bool ema) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return absl::NotFoundError(
        absl::StrCat("there is no checkpoint '", path,
                     "': expected a run directory, a step folder, or a file of safetensors or torch.save"));
  }
  if (!fs::is_directory(status)) return ReadFileWeights(path, ema);
  // As `graticule export` leaves it.
  const std::string exported = path + "/" + kModel;
  if (!Exists(path + "/" + kManifest) && Exists(exported)) return ReadFileWeights(exported, ema);
  ASSIGN_OR_RETURN(const std::string folder, FindStepFolder(path));
  return ReadFolderWeights(folder, ema);
}

}  // namespace graticule
