#include "tests/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace graticule {

std::string ProgramResult::LastError() const {
  std::string text = err;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

ProgramResult RunProgram(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  return Program(arguments, options).Wait();
}

Program::Program(const std::vector<std::string>& arguments, const ProgramOptions& options)
    : folder_(FreshFolder("program_output")) {
  const std::string binary = Runfile(options.binary);
  pid_ = fork();
  if (pid_ != 0) return;
  const int out = open((folder_ + "/out").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int err = open((folder_ + "/err").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(127);
  if (options.file_size_limit > 0) {
    const rlimit limit{static_cast<rlim_t>(options.file_size_limit), static_cast<rlim_t>(options.file_size_limit)};
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_IGN);
  }
  for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), /*overwrite=*/1);
  std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(binary.c_str(), argv.data());
  _exit(127);
}

Program::~Program() {
  if (!running()) return;
  Signal(SIGKILL);
  Wait();
}

bool Program::running() {
  if (!ended_) ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return !ended_;
}

void Program::Signal(int signal) const { kill(pid_, signal); }

std::string Program::out() const { return ReadText(folder_ + "/out"); }
std::string Program::err() const { return ReadText(folder_ + "/err"); }

ProgramResult Program::Wait() {
  if (!ended_) waitpid(pid_, &status_, 0);
  ended_ = true;
  ProgramResult result;
  result.exit_code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  result.out = out();
  result.err = err();
  return result;
}

bool WaitUntil(const std::function<bool()>& condition, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

std::vector<std::map<std::string, double>> ReadMetrics(const std::string& run) {
  const auto split = [](const std::string& line) {
    std::vector<std::string> cells;
    std::istringstream stream(line);
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    return cells;
  };
  std::ifstream file(run + "/metrics.csv");
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> names = split(line);
  std::vector<std::map<std::string, double>> rows;
  while (std::getline(file, line)) {
    const std::vector<std::string> cells = split(line);
    auto& row = rows.emplace_back();
    for (size_t c = 0; c < cells.size(); ++c) {
      if (!cells[c].empty()) row[names[c]] = std::stod(cells[c]);
    }
  }
  return rows;
}

std::vector<std::map<std::string, double>> ReadMetricsWithoutClock(const std::string& run) {
  auto rows = ReadMetrics(run);
  for (auto& row : rows) {
    row.erase("images_per_second");
    row.erase("data_wait");
  }
  return rows;
}

void ExpectSameEnd(const std::string& a, const std::string& b) {
  for (const char* file : {"model", "ema", "optimizer", "objectives"}) {
    const std::string path = std::string("/checkpoints/last/") + file + ".safetensors";
    ASSERT_EQ(std::filesystem::exists(a + path), std::filesystem::exists(b + path)) << path;
    EXPECT_TRUE(ReadText(a + path) == ReadText(b + path)) << "other bytes: " << path;
  }
  const auto x = ReadMetricsWithoutClock(a), y = ReadMetricsWithoutClock(b);
  ASSERT_EQ(x.size(), y.size());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], y[i]) << "line " << i + 2 << " of metrics.csv";
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

std::string MakeImageFolder(const std::string& folder, const std::vector<std::string>& classes, int images) {
  const std::string image = Runfile("graticule/tests/testdata/square.png");
  for (const char* split : {"train", "val"}) {
    for (const std::string& name : classes) {
      const std::string class_folder = folder + "/" + split + "/" + name;
      std::filesystem::create_directories(class_folder);
      for (int i = 0; i < images; ++i) {
        std::filesystem::copy_file(image, class_folder + "/" + std::to_string(i) + ".png");
      }
    }
  }
  return "data.dataset=[type.googleapis.com/graticule.ImageFolder] { path: \"" + folder + "\" }";
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
