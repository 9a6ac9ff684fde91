// Runs the program as a user does, for tests that cross folders.
#ifndef GRATICULE_TESTS_PROGRAM_H_
#define GRATICULE_TESTS_PROGRAM_H_

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
};

ProgramResult RunProgram(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

// Absolute path of a runfile, such as "graticule/configs/quickstart.textproto".
std::string Runfile(const std::string& path);

// A fresh, empty folder for the running test.
std::string FreshFolder(const std::string& name);

std::string ReadText(const std::string& path);
void WriteText(const std::string& path, const std::string& text);

// A spec that trains in seconds: a tiny ViT with MPVG and APL on procedural images of 16×16 in 4 classes. `extra` is
// appended, and so overrides nothing: a singular field that stands here already may not be given again.
std::string TinySpec(const std::string& extra = "");

}  // namespace graticule

#endif  // GRATICULE_TESTS_PROGRAM_H_
