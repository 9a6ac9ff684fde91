// What a run says: to the terminal and to log.txt.
#ifndef GRATICULE_TRAINER_RUN_LOG_H_
#define GRATICULE_TRAINER_RUN_LOG_H_

#include <fstream>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "plugin/logging.h"

namespace graticule {

// Lines go to standard output and, with the time before them, to the file. On a terminal one progress line may stand
// below them. While it lives, what the program logs through glog at WARNING or above goes to the file too.
class RunLog : public google::LogSink {
 public:
  // Appends to `path`. A quiet one says nothing on the terminal: of a process beside the one that does.
  static absl::StatusOr<std::unique_ptr<RunLog>> Open(const std::string& path, bool quiet = false);
  ~RunLog() override;

  void Line(const std::string& text);
  // As Line, but not to a terminal, where the progress line says it.
  void Detail(const std::string& text);
  // Replaces the progress line, which is cut to `columns`; nothing where there is no terminal.
  void Progress(const std::string& text);
  bool has_terminal() const { return has_terminal_; }
  // How wide the progress line may be; 0: no bound is known.
  int columns() const;
  const std::string& path() const { return path_; }

  void send(google::LogSeverity severity, const char* full_filename, const char* base_filename, int line,
            const google::LogMessageTime& time, const char* message, size_t message_length) override;

 private:
  RunLog(const std::string& path, std::ofstream file, bool quiet);
  void WriteToFile(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const bool quiet_;
  const bool has_terminal_;
  absl::Mutex mutex_;
  std::ofstream file_ ABSL_GUARDED_BY(mutex_);
  std::string progress_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_RUN_LOG_H_
