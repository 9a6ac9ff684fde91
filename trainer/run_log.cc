#include "trainer/run_log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace graticule {
namespace {

constexpr char kClearLine[] = "\r\033[K";

// As many characters as there are columns: a longer line would wrap, and could not be replaced.
std::string CutToColumns(const std::string& text, int columns) {
  if (columns == 0) return text;
  int characters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool begins_character = (text[i] & 0xC0) != 0x80;
    if (begins_character && ++characters > columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunLog>> RunLog::Open(const std::string& path, bool quiet) {
  std::ofstream file(path, std::ios::app);
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", std::strerror(errno)));
  return std::unique_ptr<RunLog>(new RunLog(path, std::move(file), quiet));
}

RunLog::RunLog(const std::string& path, std::ofstream file, bool quiet)
    : path_(path), quiet_(quiet), has_terminal_(!quiet && isatty(STDOUT_FILENO)), file_(std::move(file)) {
  google::AddLogSink(this);
}

RunLog::~RunLog() {
  google::RemoveLogSink(this);
  Progress("");
}

int RunLog::columns() const {
  winsize size{};
  if (!has_terminal_ || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 0;
  return size.ws_col - 1;  // a character in the last one would move the cursor on
}

void RunLog::Line(const std::string& text) {
  absl::MutexLock lock(&mutex_);
  WriteToFile(text);
  if (quiet_) return;
  if (!progress_.empty()) std::cout << kClearLine;
  std::cout << text << "\n" << progress_ << std::flush;
  std::cout.clear();  // whoever read it may be gone
}

void RunLog::Detail(const std::string& text) {
  if (!has_terminal_) return Line(text);
  absl::MutexLock lock(&mutex_);
  WriteToFile(text);
}

void RunLog::WriteToFile(const std::string& text) {
  file_.clear();  // a disk that was full may have room again
  file_ << absl::FormatTime("%Y-%m-%d %H:%M:%S ", absl::Now(), absl::LocalTimeZone()) << text << std::endl;
}

void RunLog::Progress(const std::string& text) {
  if (!has_terminal_) return;
  absl::MutexLock lock(&mutex_);
  if (text.empty() && progress_.empty()) return;
  progress_ = CutToColumns(text, columns());
  std::cout << kClearLine << progress_ << std::flush;
}

void RunLog::send(google::LogSeverity severity, const char*, const char*, int, const google::LogMessageTime&,
                  const char* message, size_t message_length) {
  if (severity < google::GLOG_WARNING) return;
  absl::MutexLock lock(&mutex_);
  WriteToFile(
      absl::StrCat(severity == google::GLOG_WARNING ? "warning: " : "error: ", std::string(message, message_length)));
}

}  // namespace graticule
