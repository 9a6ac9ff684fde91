// Runs the program as a user does, for tests that cross folders.
#ifndef GRATICULE_TESTS_PROGRAM_H_
#define GRATICULE_TESTS_PROGRAM_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace graticule {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal if it was killed
  std::string out;
  std::string err;

  // The last line of `err`: where an error is said.
  std::string LastError() const;
};

struct ProgramOptions {
  std::string binary = "graticule/app/graticule";  // a runfile
  std::string directory;                           // working directory; empty: the test's own
  int64_t file_size_limit = 0;                     // bytes; writing more fails with "File too large". 0: none
  std::map<std::string, std::string> environment;  // besides the test's own
};

ProgramResult RunProgram(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

// A program under way, which is killed where nobody waits for its end.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  bool running();
  void Signal(int signal) const;
  // What it has printed so far.
  std::string out() const;
  std::string err() const;
  ProgramResult Wait();

 private:
  std::string folder_;
  pid_t pid_;
  bool ended_ = false;
  int status_ = 0;
};

// Whether it becomes true within so many seconds.
bool WaitUntil(const std::function<bool()>& condition, double seconds);

// Absolute path of a runfile, such as "graticule/configs/quickstart.textproto".
std::string Runfile(const std::string& path);

// A fresh, empty folder for the running test.
std::string FreshFolder(const std::string& name);

std::string ReadText(const std::string& path);
void WriteText(const std::string& path, const std::string& text);

// metrics.csv of a run as rows of column name to value; empty cells are left out.
std::vector<std::map<std::string, double>> ReadMetrics(const std::string& run);
// The same without the columns that are of the clock.
std::vector<std::map<std::string, double>> ReadMetricsWithoutClock(const std::string& run);

// Expects two runs to have ended with the same weights, averages and states of the optimizer, bit for bit, and the same
// metrics, but for those of the clock.
void ExpectSameEnd(const std::string& a, const std::string& b);

// Makes FOLDER/train/CLASS/ and FOLDER/val/CLASS/ of so many copies of tests/testdata/square.png each, 0.png, 1.png, …
// Returns the setting that makes it an experiment's data set, for --set. The test has the image as data.
std::string MakeImageFolder(const std::string& folder, const std::vector<std::string>& classes, int images);

// A spec that trains in seconds: a tiny ViT with MPVG and APL on procedural images of 16×16 in 4 classes. `extra` is
// appended, and so overrides nothing: a singular field that stands here already may not be given again.
std::string TinySpec(const std::string& extra = "");

}  // namespace graticule

#endif  // GRATICULE_TESTS_PROGRAM_H_
