#include "trainer/distributed/testing.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/logging.h"
#include "trainer/distributed/environment.h"
#include "trainer/distributed/ranks.h"

namespace graticule {
namespace {

constexpr char kVariable[] = "GRATICULE_TEST_RANK_MAIN";

}  // namespace

int RunTestsOrRank(int argc, char** argv, const std::map<std::string, RankMain>& mains) {
  if (const char* name = std::getenv(kVariable); name != nullptr) return mains.at(name)();
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}

std::string RankMainVariable(const std::string& name) { return absl::StrCat(kVariable, "=", name); }

std::vector<RankResult> RunRanks(int size, const std::string& name,
                                 const std::function<void(const std::vector<pid_t>&)>& meanwhile) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  CHECK_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  CHECK_EQ(listen(listener, 16), 0);
  CHECK_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);

  const auto begin = std::chrono::steady_clock::now();
  std::vector<pid_t> pids;
  std::vector<std::string> files;
  for (int rank = 0; rank < size; ++rank) {
    files.push_back(absl::StrCat(testing::TempDir(), "/", name, "-", rank, ".txt"));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, files.back().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (rank == 0) posix_spawn_file_actions_adddup2(&actions, listener, listener);
    std::vector<std::string> variables = {RankMainVariable(name),
                                          absl::StrCat("RANK=", rank),
                                          absl::StrCat("WORLD_SIZE=", size),
                                          absl::StrCat("LOCAL_RANK=", rank),
                                          absl::StrCat("LOCAL_WORLD_SIZE=", size),
                                          "MASTER_ADDR=127.0.0.1",
                                          absl::StrCat("MASTER_PORT=", ntohs(address.sin_port))};
    if (rank == 0) variables.push_back(absl::StrCat("GRATICULE_STORE_FD=", listener));
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    for (char** variable = environ; *variable != nullptr; ++variable) environment.push_back(*variable);
    environment.push_back(nullptr);
    char program[] = "/proc/self/exe";
    char* arguments[] = {program, nullptr};
    pid_t pid = 0;
    CHECK_EQ(posix_spawn(&pid, program, &actions, nullptr, arguments, environment.data()), 0);
    posix_spawn_file_actions_destroy(&actions);
    pids.push_back(pid);
  }
  close(listener);
  if (meanwhile) meanwhile(pids);

  std::vector<RankResult> results(size);
  for (int left = size; left > 0;) {
    int status = 0;
    const pid_t pid = wait(&status);
    CHECK_GT(pid, 0);
    for (int rank = 0; rank < size; ++rank) {
      if (pids[rank] != pid) continue;
      RankResult& result = results[rank];
      result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      std::ostringstream text;
      text << std::ifstream(files[rank]).rdbuf();
      result.output = text.str();
      --left;
    }
  }
  return results;
}

std::unique_ptr<Ranks> JoinOrDie(double timeout_seconds) {
  const auto environment = ReadLaunchEnvironment();
  CHECK(environment.ok()) << environment.status();
  auto ranks = Ranks::Join(*environment, at::kCPU, timeout_seconds);
  if (!ranks.ok()) {
    std::cerr << ranks.status() << std::endl;
    std::exit(3);
  }
  return std::move(ranks).value();
}

}  // namespace graticule
