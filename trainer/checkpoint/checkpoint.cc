#include "trainer/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <future>
#include <iterator>
#include <memory>
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
#include "absl/types/span.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "nn/weights_file.h"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "plugin/version.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

constexpr char kManifest[] = "manifest.textproto";
constexpr char kState[] = "state.textproto";
constexpr char kModel[] = "model.safetensors";
constexpr char kObjectives[] = "objectives.safetensors";
constexpr char kEma[] = "ema.safetensors";
constexpr char kLast[] = "last";
constexpr char kBest[] = "best";
// A folder or link of this ending is half-made or half-removed;
constexpr char kTemporary[] = ".tmp";
// but for one of this, which is whole: the folder of a step while another takes its place.
constexpr char kReplaced[] = ".old.tmp";
constexpr char kDamaged[] = ".damaged";

// The tensors of a checkpoint and the files that hold them.
constexpr std::pair<const char*, Safetensors Checkpoint::*> kTensorFiles[] = {
    {kModel, &Checkpoint::model},
    {kObjectives, &Checkpoint::objectives},
    {kEma, &Checkpoint::ema},
    {"optimizer.safetensors", &Checkpoint::optimizer},
};

std::string CheckpointsFolder(const std::string& run_directory) { return run_directory + "/checkpoints"; }

std::string StepName(int64_t step) { return absl::StrFormat("step-%06d", step); }

// Files are written and read in pieces of this size, each hashed while it is in the processor's cache.
constexpr size_t kPiece = 256 << 10;

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) { CHECK_EQ(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr), 1); }

  void Add(std::string_view bytes) { CHECK_EQ(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()), 1); }
  // Of all that was added. Called once.
  std::string Hexadecimal() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    CHECK_EQ(EVP_DigestFinal_ex(context_.get(), digest, &size), 1);
    return absl::BytesToHexString({reinterpret_cast<const char*>(digest), size});
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

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

// The paths in a folder whose names end so, sorted; none where there is no folder.
absl::StatusOr<std::vector<std::string>> PathsIn(const std::string& folder, std::string_view ending = "") {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::string path = entry->path();
    if (path.ends_with(ending)) paths.push_back(std::move(path));
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list '", folder, "'"));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// Gives a finished folder its name. One that has the name already is left under a temporary one, from where
// RestoreReplaced takes it if this goes wrong halfway.
absl::Status MoveIntoPlace(const std::string& temporary, const std::string& folder) {
  if (!Exists(folder)) return Rename(temporary, folder);
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) return absl::OkStatus();
  // Network file systems can't exchange two names.
  if (errno != EINVAL && errno != ENOSYS) return ErrnoStatus("replace", folder);
  const std::string old = folder + kReplaced;
  RETURN_IF_ERROR(Remove(old));
  RETURN_IF_ERROR(Rename(folder, old));
  return Rename(temporary, folder);
}

// Gives folders that were to be replaced their names again where no other has them: after a kill, or an error, between
// the two renames.
absl::Status RestoreReplaced(const std::string& checkpoints) {
  ASSIGN_OR_RETURN(const std::vector<std::string> replaced, PathsIn(checkpoints, kReplaced));
  for (const std::string& old : replaced) {
    const std::string folder = old.substr(0, old.size() - std::string_view(kReplaced).size());
    if (!Exists(folder)) RETURN_IF_ERROR(Rename(old, folder));
  }
  return absl::OkStatus();
}

// Fields that the message lacks are an error unless `allow_unknown` says otherwise.
absl::Status ParseText(const std::string& text, google::protobuf::Message& message, bool allow_unknown = false) {
  // The parser's own way to report is the program's standard error.
  class FirstError : public google::protobuf::io::ErrorCollector {
   public:
    void AddError(int line, int column, const std::string& what) override {
      if (message.empty()) message = absl::StrCat("line ", line + 1, ": ", what);
    }
    void AddWarning(int line, int column, const std::string& what) override {}
    std::string message;
  } error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.AllowUnknownField(allow_unknown);
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

// A file of a manifest, read once from its beginning to its end.
class VerifiedReader {
 public:
  static absl::StatusOr<VerifiedReader> Open(const std::string& folder, const Manifest::File& file) {
    const std::string path = folder + "/" + file.name();
    auto reader = FileReader::Open(path);
    if (absl::IsNotFound(reader.status())) return absl::DataLossError(absl::StrCat("'", path, "' is missing"));
    RETURN_IF_ERROR(reader.status());
    if (reader->size() != file.size()) {
      return absl::DataLossError(
          absl::StrCat("'", path, "' is damaged: it has ", reader->size(), " bytes instead of ", file.size()));
    }
    return VerifiedReader(path, file, *std::move(reader));
  }

  absl::Status Read(absl::Span<char> into) {
    while (status_.ok() && !into.empty()) {
      const absl::Span<char> piece = into.first(std::min(into.size(), kPiece));
      const absl::StatusOr<size_t> count = file_.Read(piece.data(), piece.size());
      status_ = count.status();
      if (status_.ok() && *count < piece.size()) {
        status_ = absl::DataLossError(absl::StrCat("'", path_, "' is damaged: it ended while it was read"));
      }
      hash_.Add({piece.data(), piece.size()});
      unread_ -= piece.size();
      into.remove_prefix(piece.size());
    }
    return status_;
  }

  // Whether the bytes are those that were written; reads what has not been read.
  absl::Status Finish() {
    std::vector<char> rest(std::min<size_t>(unread_, kPiece));
    while (unread_ > 0) RETURN_IF_ERROR(Read(absl::MakeSpan(rest).first(std::min<size_t>(unread_, kPiece))));
    RETURN_IF_ERROR(status_);
    if (hash_.Hexadecimal() == sha256_) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("'", path_,
                                            "' is damaged: its bytes have changed since it was written "
                                            "(SHA-256 differs from the manifest's)"));
  }

 private:
  VerifiedReader(const std::string& path, const Manifest::File& file, FileReader reader)
      : path_(path), sha256_(file.sha256()), unread_(file.size()), file_(std::move(reader)) {}

  std::string path_;
  std::string sha256_;
  size_t unread_;
  FileReader file_;
  Sha256 hash_;
  absl::Status status_;
};

absl::StatusOr<std::string> ReadVerified(const std::string& folder, const Manifest::File& file) {
  ASSIGN_OR_RETURN(VerifiedReader reader, VerifiedReader::Open(folder, file));
  std::string bytes(file.size(), '\0');
  RETURN_IF_ERROR(reader.Read(absl::MakeSpan(bytes)));
  RETURN_IF_ERROR(reader.Finish());
  return bytes;
}

absl::StatusOr<Safetensors> ReadVerifiedTensors(const std::string& folder, const Manifest::File& file) {
  try {
    ASSIGN_OR_RETURN(VerifiedReader reader, VerifiedReader::Open(folder, file));
    auto contents = ReadSafetensors(file.size(), [&](absl::Span<char> into) { return reader.Read(into); });
    // A changed byte explains more than what became of it.
    RETURN_IF_ERROR(reader.Finish());
    RETURN_IF_ERROR(contents.status(), absl::StrCat("'", folder, "/", file.name(), "'"));
    return contents;
  } catch (...) {
    return CurrentExceptionToStatus(absl::StrCat("reading '", folder, "/", file.name(), "'"));
  }
}

absl::StatusOr<TrainState> ReadState(const std::string& folder, const Manifest& manifest) {
  ASSIGN_OR_RETURN(const std::string text, ReadVerified(folder, *FindFile(manifest, kState)));
  TrainState state;
  const absl::Status status = ParseText(text, state);
  if (status.ok()) return state;
  // The bytes are those that were written, so it is this program that can't read them.
  const std::string path = absl::StrCat("'", folder, "/", kState, "'");
  if (!ParseText(text, state, /*allow_unknown=*/true).ok()) return Annotate(status, path);
  return absl::FailedPreconditionError(absl::StrCat(path, " was written by Graticule ", state.graticule_version(),
                                                    " and says what this one, ", kVersion,
                                                    ", does not know: ", std::string(status.message())));
}

// Step folders, the newest first, with their steps.
absl::StatusOr<std::vector<std::pair<int64_t, std::string>>> StepFolders(const std::string& checkpoints) {
  ASSIGN_OR_RETURN(const std::vector<std::string> paths, PathsIn(checkpoints));
  std::vector<std::pair<int64_t, std::string>> folders;
  for (const std::string& path : paths) {
    const std::string name = fs::path(path).filename();
    int64_t step;
    std::error_code ignored;
    if (name.starts_with("step-") && absl::SimpleAtoi(name.substr(5), &step) && name == StepName(step) &&
        fs::is_directory(path, ignored)) {
      folders.emplace_back(step, path);
    }
  }
  std::sort(folders.rbegin(), folders.rend());
  return folders;
}

// Empty where there is no link.
std::string LinkTarget(const std::string& link) {
  std::error_code ignored;
  return fs::read_symlink(link, ignored);
}

// Points a link in checkpoints/ to a step folder, in one step.
absl::Status SetLink(const std::string& checkpoints, const std::string& link, const std::string& name) {
  const std::string path = checkpoints + "/" + link;
  const std::string temporary = path + kTemporary;
  if (LinkTarget(path) == name) return absl::OkStatus();
  RETURN_IF_ERROR(Remove(temporary));
  // A copy of a run that followed its links has a folder in their place.
  std::error_code ignored;
  if (fs::is_directory(fs::symlink_status(path, ignored))) {
    RETURN_IF_ERROR(Rename(path, temporary));
    RETURN_IF_ERROR(Remove(temporary));
  }
  if (symlink(name.c_str(), temporary.c_str()) != 0) return ErrnoStatus("link", path);
  RETURN_IF_ERROR(Rename(temporary, path));
  return SyncFolder(checkpoints);
}

// All files of a checkpoint, the manifest last, into a folder that is made.
absl::Status WriteFolder(const std::string& folder, const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(Remove(folder));
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make '", folder, "'"));
  Manifest manifest;
  const auto write = [&](const std::string& name, const std::vector<std::string_view>& parts) -> absl::Status {
    ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Open(folder + "/" + name));
    Sha256 hash;
    int64_t size = 0;
    for (std::string_view part : parts) {
      size += static_cast<int64_t>(part.size());
      for (; !part.empty(); part.remove_prefix(std::min(part.size(), kPiece))) {
        const std::string_view piece = part.substr(0, kPiece);
        hash.Add(piece);
        RETURN_IF_ERROR(writer.Write(piece));
      }
    }
    Manifest::File* file = manifest.add_files();
    file->set_name(name);
    file->set_size(size);
    file->set_sha256(hash.Hexadecimal());
    return writer.Close();
  };
  for (const auto& [name, member] : kTensorFiles) {
    Safetensors contents = checkpoint.*member;
    if (contents.tensors.empty() && name != std::string_view(kModel)) continue;
    if (name == std::string_view(kEma))
      contents.metadata.insert(checkpoint.model.metadata.begin(), checkpoint.model.metadata.end());
    const SafetensorsLayout layout = LayOutSafetensors(contents);
    std::vector<std::string_view> parts = {layout.header};
    for (const at::Tensor& tensor : layout.data) {
      parts.emplace_back(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    }
    RETURN_IF_ERROR(write(name, parts));
  }
  RETURN_IF_ERROR(write(kState, {PrintText(checkpoint.state)}));
  RETURN_IF_ERROR(WriteFile(folder + "/" + kManifest, PrintText(manifest)));
  return SyncFolder(folder);
}

// Removes what half-written saves left behind, but for what is whole. Tries all, whatever fails.
absl::Status RemoveLeftovers(const std::string& checkpoints) {
  RETURN_IF_ERROR(RestoreReplaced(checkpoints));
  ASSIGN_OR_RETURN(const std::vector<std::string> leftovers, PathsIn(checkpoints, kTemporary));
  absl::Status status;
  for (const std::string& path : leftovers) status.Update(Remove(path));
  return status;
}

// The step folder that a folder stands for: itself, or a run directory's last.
absl::StatusOr<std::string> FindStepFolder(const std::string& path) {
  if (Exists(path + "/" + kManifest)) return path;
  const std::string last = CheckpointsFolder(path) + "/" + kLast;
  if (Exists(last)) return last;
  // A kill before the link was moved.
  ASSIGN_OR_RETURN(const auto folders, StepFolders(CheckpointsFolder(path)));
  if (!folders.empty()) return folders.front().second;
  return absl::NotFoundError(absl::StrCat("the folder '", path,
                                          "' has no checkpoint: neither checkpoints/last, as a run ",
                                          "directory has it, nor ", kManifest, ", as a step folder has it"));
}

absl::StatusOr<Safetensors> ReadFolderWeights(const std::string& folder, bool ema) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(folder));
  const Manifest::File* file = ema ? FindFile(manifest, kEma) : nullptr;
  if (file == nullptr) file = FindFile(manifest, kModel);
  ASSIGN_OR_RETURN(Safetensors weights, ReadVerifiedTensors(folder, *file));
  if (const Manifest::File* objectives = FindFile(manifest, kObjectives); objectives != nullptr) {
    ASSIGN_OR_RETURN(const Safetensors more, ReadVerifiedTensors(folder, *objectives));
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
      ASSIGN_OR_RETURN(VerifiedReader reader, VerifiedReader::Open(folder, *file));
      RETURN_IF_ERROR(reader.Finish());
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

  // The room that they take may be what this one lacks. If they stay, they do no harm.
  RemoveLeftovers(checkpoints).IgnoreError();

  absl::Status status = WriteFolder(temporary, checkpoint);
  if (status.ok()) status = MoveIntoPlace(temporary, folder);
  if (status.ok()) status = SyncFolder(checkpoints);
  if (status.ok()) status = SetLink(checkpoints, kLast, name);
  RemoveLeftovers(checkpoints).IgnoreError();
  return Annotate(status, context);
}

std::string CheckpointFolder(const std::string& run_directory, int64_t step) {
  return CheckpointsFolder(run_directory) + "/" + StepName(step);
}

absl::StatusOr<bool> HasCheckpoint(const std::string& run_directory) {
  const std::string checkpoints = CheckpointsFolder(run_directory);
  ASSIGN_OR_RETURN(const auto folders, StepFolders(checkpoints));
  ASSIGN_OR_RETURN(const std::vector<std::string> replaced, PathsIn(checkpoints, kReplaced));
  return !folders.empty() || !replaced.empty();
}

absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& folder) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(folder));
  for (const Manifest::File& file : manifest.files()) {
    const auto is_it = [&](const auto& known) { return known.first == file.name(); };
    if (file.name() != kState && std::none_of(std::begin(kTensorFiles), std::end(kTensorFiles), is_it)) {
      return absl::FailedPreconditionError(
          absl::StrCat("'", folder, "' has a file that this Graticule, ", kVersion, ", does not know: ", file.name()));
    }
  }
  Checkpoint checkpoint;
  ASSIGN_OR_RETURN(checkpoint.state, ReadState(folder, manifest));
  std::vector<std::future<absl::Status>> reads;
  for (const auto& [name, member] : kTensorFiles) {
    const Manifest::File* file = FindFile(manifest, name);
    if (file == nullptr) continue;
    reads.push_back(std::async(std::launch::async, [&folder, file, &into = checkpoint.*member]() -> absl::Status {
      ASSIGN_OR_RETURN(into, ReadVerifiedTensors(folder, *file));
      return absl::OkStatus();
    }));
  }
  absl::Status status;
  for (std::future<absl::Status>& read : reads) status.Update(read.get());
  RETURN_IF_ERROR(status);
  return checkpoint;
}

absl::StatusOr<std::optional<Checkpoint>> LoadNewestCheckpoint(const std::string& run_directory,
                                                               const std::function<void(const std::string&)>& report) {
  const std::string checkpoints = CheckpointsFolder(run_directory);
  RETURN_IF_ERROR(RestoreReplaced(checkpoints));
  ASSIGN_OR_RETURN(const auto folders, StepFolders(checkpoints));
  std::vector<std::string> damaged;
  for (const auto& [step, folder] : folders) {
    auto checkpoint = LoadCheckpoint(folder);
    if (checkpoint.ok() && checkpoint->state.step() != step) {
      checkpoint = absl::DataLossError(absl::StrCat("'", folder, "' holds the step ", checkpoint->state.step()));
    }
    if (checkpoint.ok()) {
      const absl::Status linked = SetLink(checkpoints, kLast, StepName(step));
      if (!linked.ok()) report(std::string(linked.message()));
      return std::optional<Checkpoint>(*std::move(checkpoint));
    }
    // Files that can't be read are no proof of damage.
    if (!absl::IsDataLoss(checkpoint.status())) return checkpoint.status();
    const std::string aside = folder + kDamaged;
    absl::Status moved = Remove(aside);
    if (moved.ok()) moved = Rename(folder, aside);
    if (!moved.ok()) damaged.push_back(absl::StrCat("'", folder, "'"));
    report(absl::StrCat(std::string(checkpoint.status().message()), "; ",
                        moved.ok() ? absl::StrCat("set aside as '", aside, "'") : std::string(moved.message())));
  }
  // Those of an earlier start too.
  ASSIGN_OR_RETURN(const std::vector<std::string> aside, PathsIn(checkpoints, kDamaged));
  for (const std::string& folder : aside) damaged.push_back(absl::StrCat("'", folder, "'"));
  if (damaged.empty()) return std::optional<Checkpoint>();
  return absl::DataLossError(absl::StrCat("no checkpoint in '", checkpoints, "' is whole; damaged: ", FirstFew(damaged),
                                          "; to start anew, give another --output=DIR or remove '", checkpoints, "'"));
}

absl::Status PruneCheckpoints(const std::string& run_directory, const Retention& retention) {
  const std::string checkpoints = CheckpointsFolder(run_directory);
  if (!Exists(checkpoints)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto folders, StepFolders(checkpoints));
  absl::Status status;
  if (!retention.best.has_value()) {
    status = Remove(checkpoints + "/" + kBest);
  } else if (Exists(CheckpointFolder(run_directory, *retention.best))) {
    status = SetLink(checkpoints, kBest, StepName(*retention.best));
  } else if (!Exists(checkpoints + "/" + kBest)) {
    status = Remove(checkpoints + "/" + kBest);
  }
  // Where the best could not be saved the best one before it stays.
  const std::string last = LinkTarget(checkpoints + "/" + kLast), best = LinkTarget(checkpoints + "/" + kBest);
  for (size_t i = std::max(retention.keep, 1); i < folders.size(); ++i) {
    const auto& [step, folder] = folders[i];
    if (step == retention.best || (retention.every > 0 && step % retention.every == 0) || StepName(step) == last ||
        StepName(step) == best) {
      continue;
    }
    // Under its own name it would look damaged if removing it were cut short.
    absl::Status moved = Remove(folder + kTemporary);
    if (moved.ok()) moved = Rename(folder, folder + kTemporary);
    status.Update(moved);
  }
  status.Update(RemoveLeftovers(checkpoints));
  return status;
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
