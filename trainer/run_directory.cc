#include "trainer/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "plugin/file.h"
#include "plugin/status.h"
#include "trainer/spec.h"

namespace graticule {
namespace {

// The first lines in which two texts differ, for a message.
std::string FirstDifference(const std::string& before, const std::string& now) {
  const std::vector<std::string> a = absl::StrSplit(before, '\n'), b = absl::StrSplit(now, '\n');
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string x = i < a.size() ? a[i] : "", y = i < b.size() ? b[i] : "";
    if (x != y) return absl::StrCat("line ", i + 1, " was '", x, "' and is '", y, "'");
  }
  return "nothing";
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunDirectory>> RunDirectory::Open(const std::string& path, const Experiment& experiment,
                                                                 bool allow_changed_spec) {
  std::unique_ptr<RunDirectory> run(new RunDirectory(path, PrintExperiment(experiment)));
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", path, ": ", error.message()));
  RETURN_IF_ERROR(run->Lock());

  const auto before = ReadFile(run->spec_path());
  run->spec_is_written_ = before.ok() && *before == run->spec_;
  if (before.ok() && !run->spec_is_written_ && !allow_changed_spec &&
      std::filesystem::exists(path + "/checkpoints/last", error)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " holds a run of another spec (", FirstDifference(*before, run->spec_),
                     "); give another --output=DIR, or go on with it by --allow-changed-spec"));
  }
  return run;
}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) close(lock_);
}

absl::Status RunDirectory::Lock() {
  lock_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) return ErrnoStatus("open", path_);
  // It ends with the process, however that ends.
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(absl::StrCat("another process is training into ", path_));
  }
  return absl::OkStatus();
}

absl::Status RunDirectory::WriteSpec() const {
  return spec_is_written_ ? absl::OkStatus() : WriteFileAtomically(spec_path(), spec_);
}

}  // namespace graticule
