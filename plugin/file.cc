#include "plugin/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace graticule {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  // Some file systems report only here that the disk is full.
  int Close() { return close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

absl::StatusOr<std::string> ReadAll(const Descriptor& file, const std::string& path) {
  struct stat info;
  if (fstat(file.get(), &info) != 0) return ErrnoStatus("read", path);
  std::string bytes(info.st_size, '\0');
  size_t filled = 0;
  while (true) {
    // A pipe or a file that grows has more than its size says.
    if (filled == bytes.size()) bytes.resize(bytes.size() + 4096);
    const ssize_t count = read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus("read", path);
    if (count == 0) break;
    filled += count;
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace

absl::Status ErrnoStatus(std::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", std::string(what), " '", path, "'"));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return ErrnoStatus("read", path);
  return ReadAll(file, path);
}

absl::StatusOr<std::string> ReadRegularFile(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (file.get() < 0 || fstat(file.get(), &info) != 0) return ErrnoStatus("read", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot read '", path, "': not a file but a folder, a pipe or a device"));
  }
  return ReadAll(file, path);
}

absl::Status WriteFile(const std::string& path, std::string_view bytes) {
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.get() < 0) return ErrnoStatus("write", path);
  while (!bytes.empty()) {
    const ssize_t count = write(file.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus("write", path);
    bytes.remove_prefix(count);
  }
  // Pipes and character devices have nothing to sync.
  if (fsync(file.get()) != 0 && errno != EINVAL) return ErrnoStatus("write", path);
  if (file.Close() != 0) return ErrnoStatus("write", path);
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  absl::Status status = WriteFile(temporary, bytes);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) status = ErrnoStatus("write", path);
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncFolder(std::filesystem::path(path).parent_path());
}

absl::StatusOr<Appender> Appender::Open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) return ErrnoStatus("write", path);
  return Appender(path, file);
}

absl::Status Appender::Write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) return ErrnoStatus("write", path_);
  return absl::OkStatus();
}

absl::Status Appender::Flush() {
  if (std::fflush(file_.get()) != 0) return ErrnoStatus("write", path_);
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& path) {
  const std::string name = path.empty() ? "." : path;
  Descriptor folder(open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || fsync(folder.get()) != 0) return ErrnoStatus("sync", name);
  return absl::OkStatus();
}

}  // namespace graticule
