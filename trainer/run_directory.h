// The folder of a run, and that only one training works in it.
#ifndef GRATICULE_TRAINER_RUN_DIRECTORY_H_
#define GRATICULE_TRAINER_RUN_DIRECTORY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "plugin/file.h"
#include "trainer/experiment.pb.h"

namespace graticule {

class RunDirectory {
 public:
  // Creates the folder if need be and locks it for as long as the object lives. FailedPrecondition if another process
  // trains into it; and, unless `allow_changed_spec`, if it holds a run of another spec (trainer/spec_changes.h), or
  // files of a run without the spec that lies beside them, or a spec without them, which somebody has written. A run
  // that has no checkpoint yet may become another.
  static absl::StatusOr<std::unique_ptr<RunDirectory>> Open(const std::string& path, const Experiment& experiment,
                                                            bool allow_changed_spec);

  // Writes experiment.textproto, unless it says the same already. To be called only once the run is known to fit: a
  // spec that turns out not to must not replace the one that did. Open has done it where there was none to replace.
  absl::Status WriteSpec();

  const std::string& path() const { return path_; }
  // Whether it held a checkpoint when it was opened.
  bool has_begun() const { return has_begun_; }
  // What a user may look for in it, of that what is there: "metrics.csv", "checkpoints/last", …
  std::vector<std::string> Contents() const;

 private:
  RunDirectory(std::string path, std::string spec) : path_(std::move(path)), spec_(std::move(spec)) {}
  absl::Status CheckFolder(bool allow_lost_spec) const;
  absl::Status Lock();
  absl::Status CheckSpec(const Experiment& experiment) const;
  std::string spec_path() const { return path_ + "/experiment.textproto"; }
  std::string lock_path() const { return path_ + "/lock"; }

  const std::string path_;
  const std::string spec_;  // as it shall be written
  bool spec_is_written_ = false;
  bool has_begun_ = false;
  Descriptor lock_{-1};
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_RUN_DIRECTORY_H_
