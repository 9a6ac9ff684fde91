#include "plugin/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace graticule {
namespace {

// Bytes that an Appender keeps at most before it hands them to the system,
constexpr size_t kPending = 64 << 10;
// and that it keeps before it leaves out what comes, where the system does not take them.
constexpr size_t kMostPending = 64 << 20;

// Fewer bytes than `size` only at the end of the file.
absl::StatusOr<size_t> ReadSome(const Descriptor& file, const std::string& path, char* into, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    const ssize_t count = read(file.get(), into + filled, size - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus("read", path);
    if (count == 0) break;
    filled += count;
  }
  return filled;
}

// Takes from `bytes` what has been written.
absl::Status WriteSome(const Descriptor& file, const std::string& path, std::string_view& bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(file.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus("write", path);
    bytes.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAll(const Descriptor& file, const std::string& path) {
  struct stat info;
  if (fstat(file.get(), &info) != 0) return ErrnoStatus("read", path);
  std::string bytes(info.st_size, '\0');
  size_t filled = 0;
  while (true) {
    // A pipe or a file that grows has more than its size says.
    if (filled == bytes.size()) bytes.resize(bytes.size() + 4096);
    const auto count = ReadSome(file, path, bytes.data() + filled, bytes.size() - filled);
    if (!count.ok()) return count.status();
    filled += *count;
    if (filled < bytes.size()) break;
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
  auto file = FileWriter::Open(path);
  if (!file.ok()) return file.status();
  const absl::Status status = file->Write(bytes);
  return status.ok() ? file->Close() : status;
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

int Descriptor::Close() { return fd_ < 0 ? 0 : close(std::exchange(fd_, -1)); }

absl::StatusOr<FileReader> FileReader::Open(const std::string& path) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (file.get() < 0 || fstat(file.get(), &info) != 0) return ErrnoStatus("read", path);
  if (S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    return ErrnoStatus("read", path);
  }
  return FileReader(path, std::move(file), info.st_size);
}

absl::StatusOr<size_t> FileReader::Read(char* into, size_t size) { return ReadSome(file_, path_, into, size); }

absl::StatusOr<FileWriter> FileWriter::Open(const std::string& path) {
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.get() < 0) return ErrnoStatus("write", path);
  return FileWriter(path, std::move(file));
}

absl::Status FileWriter::Write(std::string_view bytes) { return WriteSome(file_, path_, bytes); }

absl::Status FileWriter::Close() {
  // Pipes and character devices have nothing to sync.
  if (fsync(file_.get()) != 0 && errno != EINVAL) return ErrnoStatus("write", path_);
  if (file_.Close() != 0) return ErrnoStatus("write", path_);
  return absl::OkStatus();
}

absl::StatusOr<Appender> Appender::Open(const std::string& path) {
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file.get() < 0) return ErrnoStatus("write", path);
  return Appender(path, std::move(file));
}

Appender::~Appender() { Flush().IgnoreError(); }

// What is not written yet goes with its file.
Appender& Appender::operator=(Appender&& other) {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(pending_, other.pending_);
  return *this;
}

absl::Status Appender::Write(std::string_view bytes) {
  if (pending_.size() >= kMostPending) {
    const absl::Status status = Flush();
    if (!status.ok()) return status;
  }
  pending_.append(bytes);
  return pending_.size() < kPending ? absl::OkStatus() : Flush();
}

absl::Status Appender::Flush() {
  std::string_view rest = pending_;
  const absl::Status status = WriteSome(file_, path_, rest);
  pending_.erase(0, pending_.size() - rest.size());
  return status;
}

absl::Status SyncFolder(const std::string& path) {
  const std::string name = path.empty() ? "." : path;
  Descriptor folder(open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || fsync(folder.get()) != 0) return ErrnoStatus("sync", name);
  return absl::OkStatus();
}

}  // namespace graticule
