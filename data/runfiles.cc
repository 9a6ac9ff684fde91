#include "data/runfiles.h"

#include <errno.h>  // program_invocation_name
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

// Folders that may hold the runfiles, likeliest first.
std::vector<fs::path> RunfilesFolders() {
  std::vector<fs::path> folders;
  for (const char* variable : {"RUNFILES_DIR", "TEST_SRCDIR"}) {
    if (const char* value = getenv(variable); value != nullptr && *value != '\0') folders.emplace_back(value);
  }
  // As it was called, which may be a link in a sandbox or in another program's runfiles, and where that leads.
  std::error_code error;
  std::vector<fs::path> programs = {fs::absolute(program_invocation_name, error)};
  programs.push_back(fs::read_symlink("/proc/self/exe", error));
  for (const fs::path& program : programs) {
    if (program.empty()) continue;
    folders.emplace_back(program.string() + ".runfiles");
    for (fs::path folder = program.parent_path(); folder.has_relative_path(); folder = folder.parent_path()) {
      if (folder.extension() == ".runfiles") folders.push_back(folder);
    }
  }
  return folders;
}

// The path that a manifest (lines of "RUNFILE PATH") gives, or nothing.
std::string LookUp(const fs::path& manifest, const std::string& runfile) {
  std::ifstream file(manifest);
  const std::string prefix = runfile + " ";
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, prefix.size(), prefix) == 0) return line.substr(prefix.size());
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> FindRunfile(std::string_view runfile) {
  const std::string name(runfile);
  std::vector<std::string> searched;
  std::vector<fs::path> manifests;
  if (const char* value = getenv("RUNFILES_MANIFEST_FILE"); value != nullptr && *value != '\0') {
    manifests.emplace_back(value);
  }
  std::error_code error;
  for (const fs::path& folder : RunfilesFolders()) {
    if (fs::exists(folder / name, error)) return (folder / name).string();
    searched.push_back(folder.string());
    manifests.push_back(folder / "MANIFEST");
    manifests.emplace_back(folder.string() + "_manifest");
  }
  for (const fs::path& manifest : manifests) {
    const std::string path = LookUp(manifest, name);
    if (!path.empty() && fs::exists(path, error)) return path;
  }
  return absl::NotFoundError(
      absl::StrCat("the program's runfile ", name, " is in none of ", absl::StrJoin(searched, ", ")));
}

}  // namespace graticule
