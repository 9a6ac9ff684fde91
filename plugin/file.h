// Files in and out, whole or in pieces, with errors that name the path.
#ifndef GRATICULE_PLUGIN_FILE_H_
#define GRATICULE_PLUGIN_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace graticule {

absl::StatusOr<std::string> ReadFile(const std::string& path);

// As ReadFile, but an error for all but a file on disk: a pipe would wait for its other end, a device need not end.
absl::StatusOr<std::string> ReadRegularFile(const std::string& path);

// Creates or overwrites `path`, and fsyncs it. An error may leave a part of it.
absl::Status WriteFile(const std::string& path, std::string_view bytes);

// As WriteFile, but readers see the old file or the new one, never a part, and an error leaves the old one.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);

// An open file of the system.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(Descriptor&& other) : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int get() const { return fd_; }
  // As close(2); 0 where it is not open. Some file systems report only here that the disk is full.
  int Close();

 private:
  int fd_;
};

// A file that is read piece by piece.
class FileReader {
 public:
  static absl::StatusOr<FileReader> Open(const std::string& path);

  // In bytes, when it was opened. Files that grow and pipes may have more.
  int64_t size() const { return size_; }
  // The next bytes, and how many: fewer than `size` only where the file ends.
  absl::StatusOr<size_t> Read(char* into, size_t size);

 private:
  FileReader(const std::string& path, Descriptor file, int64_t size)
      : path_(path), file_(std::move(file)), size_(size) {}

  std::string path_;
  Descriptor file_;
  int64_t size_;
};

// A file that is written piece by piece. It is whole on disk once Close has returned OK; an error leaves a part of it.
class FileWriter {
 public:
  // Creates or overwrites `path`.
  static absl::StatusOr<FileWriter> Open(const std::string& path);

  absl::Status Write(std::string_view bytes);
  // Fsyncs and closes it.
  absl::Status Close();

 private:
  FileWriter(const std::string& path, Descriptor file) : path_(path), file_(std::move(file)) {}

  std::string path_;
  Descriptor file_;
};

// A file that grows, such as a log.
class Appender {
 public:
  // Creates `path` if need be.
  static absl::StatusOr<Appender> Open(const std::string& path);
  ~Appender();
  Appender(Appender&&) = default;
  Appender& operator=(Appender&& other);

  // Keeps the bytes until there are some more, or Flush. After an error too, unless 64 MiB wait already: then these are
  // left out, all of them.
  absl::Status Write(std::string_view bytes);
  // Hands everything written to the system. A full disk may show only here; what had no room then is tried again.
  absl::Status Flush();

 private:
  Appender(const std::string& path, Descriptor file) : path_(path), file_(std::move(file)) {}

  std::string path_;
  Descriptor file_;
  std::string pending_;
};

// Makes the entries of a folder (new names, renames) durable.
absl::Status SyncFolder(const std::string& path);

// "cannot WHAT 'PATH': No such file or directory", with errno's code and text.
absl::Status ErrnoStatus(std::string_view what, const std::string& path);

}  // namespace graticule

#endif  // GRATICULE_PLUGIN_FILE_H_
