// Whole files in and out, with errors that name the path.
#ifndef GRATICULE_PLUGIN_FILE_H_
#define GRATICULE_PLUGIN_FILE_H_

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

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

// A file that grows, such as a log.
class Appender {
 public:
  // Creates `path` if need be.
  static absl::StatusOr<Appender> Open(const std::string& path);

  absl::Status Write(std::string_view bytes);
  // Hands everything written to the system. A full disk may show only here.
  absl::Status Flush();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  Appender(const std::string& path, std::FILE* file) : path_(path), file_(file) {}

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

// Makes the entries of a folder (new names, renames) durable.
absl::Status SyncFolder(const std::string& path);

// "cannot WHAT 'PATH': No such file or directory", with errno's code and text.
absl::Status ErrnoStatus(std::string_view what, const std::string& path);

}  // namespace graticule

#endif  // GRATICULE_PLUGIN_FILE_H_
