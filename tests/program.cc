#include "tests/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace graticule {

std::string ProgramResult::LastError() const {
  std::string text = err;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

ProgramResult RunProgram(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  const std::string folder = FreshFolder("program_output");
  const std::string binary = Runfile(options.binary);
  const pid_t child = fork();
  if (child == 0) {
    const int out = open((folder + "/out").c_str(), O_WRONLY | O_CREAT, 0600);
    const int err = open((folder + "/err").c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(127);
    if (options.file_size_limit > 0) {
      const rlimit limit{static_cast<rlim_t>(options.file_size_limit), static_cast<rlim_t>(options.file_size_limit)};
      setrlimit(RLIMIT_FSIZE, &limit);
      signal(SIGXFSZ, SIG_IGN);
    }
    std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ProgramResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = ReadText(folder + "/out");
  result.err = ReadText(folder + "/err");
  return result;
}

std::string Runfile(const std::string& path) {
  return std::filesystem::absolute(std::string(std::getenv("TEST_SRCDIR")) + "/" + path).string();
}

std::string FreshFolder(const std::string& name) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  static int count = 0;
  std::string folder = testing::TempDir() + "/" + test->name() + "_" + name + std::to_string(count++);
  for (char& c : folder) c = c == ' ' ? '_' : c;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.flush();
  EXPECT_TRUE(file.good()) << path;
}

std::string TinySpec(const std::string& extra) {
  return R"(name: "tiny"
task { [type.googleapis.com/graticule.Classification] { label_smoothing: 0.1 } }
backbone {
  [type.googleapis.com/graticule.Vit] { patch_size: 4 embed_dim: 16 depth: 2 num_heads: 2 drop_path_rate: 0.1 }
}
pooling { [type.googleapis.com/graticule.Mpvg] {} }
objectives { objective { [type.googleapis.com/graticule.AbsolutePositionalLabel] {} } }
data {
  dataset {
    [type.googleapis.com/graticule.Synthetic] { num_classes: 4 train_size: 64 val_size: 24 height: 20 width: 20 }
  }
  image_size: 16
  train_transforms { [type.googleapis.com/graticule.RandomResizedCrop] {} }
  train_transforms { [type.googleapis.com/graticule.RandomHorizontalFlip] {} }
  eval_transforms { [type.googleapis.com/graticule.CenterCrop] {} }
  threads: 2
}
trainer {
  epochs: 4
  batch_size: 16
  learning_rate: 0.001
  optimizer { [type.googleapis.com/graticule.AdamW] {} }
  schedule { [type.googleapis.com/graticule.Cosine] { warmup_epochs: 1 } }
  clip_norm: 1
  ema_decay: 0.9
  accumulation_steps: 2
  log_interval: 2
  device: CPU
  threads: 1
}
)" + extra;
}

}  // namespace graticule
