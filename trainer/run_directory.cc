#include "trainer/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/spec.h"
#include "trainer/spec_changes.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

constexpr char kWaysOut[] = "; give another --output=DIR, or go on with it by --allow-changed-spec";

std::vector<std::string> ThoseIn(const std::string& folder, std::initializer_list<const char*> names) {
  std::vector<std::string> found;
  for (const char* name : names) {
    std::error_code error;
    if (fs::exists(folder + "/" + name, error)) found.push_back(name);
  }
  return found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunDirectory>> RunDirectory::Open(const std::string& path, const Experiment& experiment,
                                                                 bool allow_changed_spec) {
  std::unique_ptr<RunDirectory> run(new RunDirectory(path, PrintExperiment(experiment)));
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", path, ": ", error.message()));
  // Before a lock is left in a folder that is not ours.
  RETURN_IF_ERROR(run->CheckFolder(allow_changed_spec));
  RETURN_IF_ERROR(run->Lock());

  const absl::StatusOr<std::string> before = ReadFile(run->spec_path());
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  run->spec_is_written_ = before.ok() && *before == run->spec_;
  ASSIGN_OR_RETURN(run->has_begun_, HasCheckpoint(path));
  if (!run->has_begun_) {
    RETURN_IF_ERROR(run->WriteSpec());
  } else if (before.ok() && !run->spec_is_written_ && !allow_changed_spec) {
    RETURN_IF_ERROR(run->CheckSpec(experiment));
  }
  return run;
}

absl::Status RunDirectory::CheckFolder(bool allow_lost_spec) const {
  // What a training writes over, adds to, or goes on with. Beside it lies a spec, which was there first.
  const std::vector<std::string> files = ThoseIn(path_, {"checkpoints", "log.txt", "metrics.csv", "run.json"});
  const absl::StatusOr<std::string> spec = ReadFile(spec_path());
  if (absl::IsNotFound(spec.status()) && !files.empty() && !allow_lost_spec) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " has ", absl::StrJoin(files, ", "),
                     ", but no experiment.textproto: it is no run's folder, or the run's spec is lost", kWaysOut));
  }
  std::error_code error;
  if (spec.ok() && *spec != spec_ && files.empty() && !fs::exists(lock_path(), error)) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec_path(), " is of no run, and would be replaced; give another --output=DIR"));
  }
  return absl::OkStatus();
}

absl::Status RunDirectory::Lock() {
  // Not the folder itself: network file systems lock files that are open for writing.
  const std::string file = lock_path();
  lock_ = Descriptor(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (lock_.get() < 0) return ErrnoStatus("open", file);
  // It ends with the process, however that ends.
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  if (errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(absl::StrCat("another process is training into ", path_));
  }
  LOG(WARNING) << ErrnoStatus("lock", file).message() << "; a second training into " << path_
               << " would not be refused";
  return absl::OkStatus();
}

absl::Status RunDirectory::CheckSpec(const Experiment& experiment) const {
  const absl::StatusOr<Spec> before = Spec::Load(spec_path());
  if (!before.ok()) {
    const std::string errors = absl::StrReplaceAll(std::string(before.status().message()), {{"\n", "; "}});
    return absl::FailedPreconditionError(
        absl::StrCat("the spec of the run in ", path_, " cannot be read (", errors, ")", kWaysOut));
  }
  const std::vector<std::string> changes = SpecChanges(before->experiment(), experiment);
  if (changes.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " holds a run of another spec: ", absl::StrJoin(changes, ", "), kWaysOut));
}

std::vector<std::string> RunDirectory::Contents() const {
  std::vector<std::string> found = ThoseIn(
      path_, {"metrics.csv", "log.txt", "run.json", "experiment.textproto", "checkpoints/last", "checkpoints/best"});
  std::error_code error;
  for (fs::directory_iterator entry(path_, error), end; !error && entry != end; entry.increment(error)) {
    if (!entry->path().filename().string().starts_with("events.")) continue;
    found.push_back("TensorBoard events");
    break;
  }
  return found;
}

absl::Status RunDirectory::WriteSpec() {
  if (spec_is_written_) return absl::OkStatus();
  RETURN_IF_ERROR(WriteFileAtomically(spec_path(), spec_));
  spec_is_written_ = true;
  return absl::OkStatus();
}

}  // namespace graticule
