#include "tests/faults/runs.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace graticule {

namespace fs = std::filesystem;

std::string LongSpec() {
  std::string text = TinySpec();
  const auto replace = [&](const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    if (at != std::string::npos) text.replace(at, from.size(), to);
  };
  replace("train_size: 64", "train_size: 640");
  replace("epochs: 4", "epochs: 8");
  replace(
      "  threads: 2\n}\n",
      "  threads: 2\n  batch_transforms { [type.googleapis.com/graticule.Mixup] { mixup_alpha: 0.8 cutmix_alpha: 1 } "
      "}\n}\n");
  replace("ema_decay: 0.9", "ema_decay: 0.99 ema_warmup: true");
  replace("log_interval: 2", "log_interval: 7 checkpoint_steps: 3");
  return text;
}

std::vector<std::string> FaultTest::TrainArguments(const std::string& run, const std::vector<std::string>& more) {
  const std::string spec = folder_ + "/spec.textproto";
  WriteText(spec, LongSpec());
  std::vector<std::string> arguments = {"train", spec, "--output=" + Run(run)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string FaultTest::Train(const std::string& name, const std::vector<std::string>& more) {
  const ProgramResult result = RunProgram(TrainArguments(name, more));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Run(name);
}

std::optional<int64_t> NewestStep(const std::string& run) {
  std::optional<int64_t> newest;
  std::error_code error;
  for (fs::directory_iterator entry(run + "/checkpoints", error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!name.starts_with("step-") || name.find('.') != std::string::npos) continue;
    newest = std::max<int64_t>(newest.value_or(0), std::stoll(name.substr(5)));
  }
  return newest;
}

pid_t RankOf(pid_t launcher, int rank) {
  pid_t found = -1;
  WaitUntil(
      [&] {
        const std::string task = "/proc/" + std::to_string(launcher) + "/task/" + std::to_string(launcher);
        std::istringstream children(ReadText(task + "/children"));
        for (pid_t child; children >> child;) {
          const std::string environment = '\0' + ReadText("/proc/" + std::to_string(child) + "/environ");
          const std::string variable = '\0' + ("RANK=" + std::to_string(rank)) + '\0';
          if (environment.find(variable) != std::string::npos) found = child;
        }
        return found > 0;
      },
      20);
  return found;
}

}  // namespace graticule
