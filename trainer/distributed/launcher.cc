#include "trainer/distributed/launcher.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
// Lines of a rank that are shown once it has failed.
constexpr size_t kLastLines = 10;

absl::Status SystemError(const char* what) {
  return absl::InternalError(absl::StrCat("can't start ranks: ", what, ": ", std::strerror(errno)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    Close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// The signals that the launcher waits for are blocked, and children can be waited for, as long as it lives.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGCHLD);
    for (const int signal : kPassedOn) sigaddset(&set_, signal);
    sigprocmask(SIG_BLOCK, &set_, &previous_);
    struct sigaction action = {};
    action.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &action, &previous_child_);
  }
  ~Signals() {
    sigaction(SIGCHLD, &previous_child_, nullptr);
    sigprocmask(SIG_SETMASK, &previous_, nullptr);
  }
  const sigset_t& set() const { return set_; }
  const sigset_t& previous() const { return previous_; }

 private:
  sigset_t set_;
  sigset_t previous_;
  struct sigaction previous_child_;
};

struct Rank {
  int number = 0;
  pid_t pid = 0;
  Descriptor output;  // what it writes; closed for rank 0
  std::string line;   // the one that is not at its end yet
  std::deque<std::string> last_lines;
  std::optional<int> status;  // of waitpid, once it has ended
};

bool Failed(const Rank& rank) {
  return rank.status.has_value() && !(WIFEXITED(*rank.status) && WEXITSTATUS(*rank.status) == 0);
}

void Show(Rank& rank, const std::string& line) {
  std::cerr << "[rank " << rank.number << "] " << line << "\n" << std::flush;
  rank.last_lines.push_back(line);
  if (rank.last_lines.size() > kLastLines) rank.last_lines.pop_front();
}

// What can be read without waiting.
void ReadOutput(Rank& rank) {
  char buffer[4096];
  while (rank.output.open()) {
    const ssize_t count = read(rank.output.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      rank.output.Close();
      break;
    }
    for (const char c : std::string_view(buffer, count)) {
      // A progress line begins anew with a carriage return.
      if (c == '\n')
        Show(rank, std::exchange(rank.line, ""));
      else if (c == '\r')
        rank.line.clear();
      else
        rank.line += c;
    }
  }
  if (!rank.line.empty()) Show(rank, std::exchange(rank.line, ""));
}

absl::StatusOr<Descriptor> Listen(int& port) {
  Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (!listener.open() || bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return SystemError("no port at 127.0.0.1");
  }
  port = ntohs(address.sin_port);
  return listener;
}

// The variables of this process, with others in place of those of the same names.
std::vector<std::string> Environment(const std::vector<std::string>& changes) {
  const auto name = [](const std::string& variable) { return variable.substr(0, variable.find('=') + 1); };
  std::vector<std::string> variables = changes;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string own = *variable;
    if (std::none_of(changes.begin(), changes.end(), [&](const auto& change) { return name(change) == name(own); })) {
      variables.push_back(own);
    }
  }
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// What the ranks inherit.
struct Inherited {
  int listener = -1;  // rank 0's
  int port = 0;
  int failures = -1;  // where a rank says that it failed by itself
};

absl::Status Start(const LaunchOptions& options, const Inherited& inherited, const Signals& signals, Rank& rank) {
  std::vector<std::string> changes = options.environment;
  for (const auto& [name, value] :
       std::initializer_list<std::pair<const char*, int>>{{"RANK", rank.number},
                                                          {"LOCAL_RANK", rank.number},
                                                          {"WORLD_SIZE", options.processes},
                                                          {"LOCAL_WORLD_SIZE", options.processes},
                                                          {"MASTER_PORT", inherited.port},
                                                          {"GRATICULE_FAILURE_FD", inherited.failures}}) {
    changes.push_back(absl::StrCat(name, "=", value));
  }
  changes.insert(changes.end(), {"MASTER_ADDR=127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE="});
  if (rank.number == 0) changes.push_back(absl::StrCat("GRATICULE_STORE_FD=", inherited.listener));
  std::vector<std::string> command = options.command;
  std::vector<std::string> variables = Environment(changes);
  const std::vector<char*> arguments = Pointers(command);
  const std::vector<char*> environment = Pointers(variables);
  int ends[2] = {-1, -1};
  if (rank.number > 0 && pipe2(ends, O_CLOEXEC) != 0) return SystemError("pipe");
  Descriptor input(ends[1]);
  rank.output = Descriptor(ends[0]);
  if (rank.output.open()) fcntl(rank.output.get(), F_SETFL, O_NONBLOCK);

  const pid_t parent = getpid();
  rank.pid = fork();
  if (rank.pid < 0) return SystemError("fork");
  if (rank.pid > 0) return absl::OkStatus();
  // In the rank: nothing but system calls until exec.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  fcntl(inherited.failures, F_SETFD, 0);
  if (rank.number == 0) {
    fcntl(inherited.listener, F_SETFD, 0);
  } else {
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(input.get(), 1) < 0 || dup2(input.get(), 2) < 0) _exit(126);
  }
  sigprocmask(SIG_SETMASK, &signals.previous(), nullptr);
  execvpe(arguments[0], arguments.data(), environment.data());
  const char* error = strerrordesc_np(errno);
  for (const char* text : {"can't run ", static_cast<const char*>(arguments[0]), ": ", error, "\n"}) {
    if (write(2, text, std::strlen(text)) < 0) break;
  }
  _exit(127);
}

// The number of the rank that was the first to say that it failed.
std::optional<size_t> FirstSaid(int failures) {
  char said[64];
  const ssize_t count = read(failures, said, sizeof said);
  const std::string text(said, std::max<ssize_t>(count, 0));
  size_t number = 0;
  if (!absl::SimpleAtoi(text.substr(0, text.find('\n')), &number)) return std::nullopt;
  return number;
}

void Send(const std::vector<Rank>& ranks, int signal) {
  for (const Rank& rank : ranks) {
    if (rank.pid > 0 && !rank.status.has_value()) kill(rank.pid, signal);
  }
}

bool Running(const std::vector<Rank>& ranks) {
  return std::any_of(ranks.begin(), ranks.end(),
                     [](const Rank& rank) { return rank.pid > 0 && !rank.status.has_value(); });
}

absl::Status FailureOf(const Rank& rank, int* exit_code) {
  const int status = *rank.status;
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (exit_code != nullptr) *exit_code = code;
  std::string words = absl::StrCat("rank ", rank.number);
  if (WIFSIGNALED(status)) {
    const char* name = sigabbrev_np(WTERMSIG(status));
    absl::StrAppend(&words, " was ended by ",
                    name != nullptr ? absl::StrCat("SIG", name) : absl::StrCat("signal ", WTERMSIG(status)));
  } else {
    absl::StrAppend(&words, " ended with exit code ", code);
  }
  if (!rank.last_lines.empty()) {
    absl::StrAppend(&words, "; its last words:\n  ", absl::StrJoin(rank.last_lines, "\n  "));
  }
  return absl::AbortedError(words);
}

}  // namespace

absl::Status Launch(const LaunchOptions& options, int* exit_code) {
  if (exit_code != nullptr) *exit_code = 1;
  const Signals signals;
  const Descriptor signal_fd(signalfd(-1, &signals.set(), SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signal_fd.open()) return SystemError("signalfd");
  Inherited inherited;
  ASSIGN_OR_RETURN(Descriptor listener, Listen(inherited.port));
  inherited.listener = listener.get();
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return SystemError("pipe");
  const Descriptor failures(ends[0]);
  const Descriptor failures_input(ends[1]);
  inherited.failures = failures_input.get();

  std::vector<Rank> ranks(options.processes);
  std::optional<size_t> failed;
  absl::Status started;
  std::optional<Clock::time_point> deadline;
  const auto end_others = [&] {
    Send(ranks, SIGTERM);
    deadline = Clock::now() +
               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.grace_seconds));
  };
  for (int i = 0; i < options.processes && started.ok(); ++i) {
    ranks[i].number = i;
    started = Start(options, inherited, signals, ranks[i]);
  }
  listener.Close();
  if (!started.ok()) end_others();

  while (Running(ranks)) {
    std::vector<pollfd> polled = {{signal_fd.get(), POLLIN, 0}};
    for (const Rank& rank : ranks) {
      if (rank.output.open()) polled.push_back({rank.output.get(), POLLIN, 0});
    }
    int wait = -1;
    if (deadline.has_value()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - Clock::now()).count();
      wait = static_cast<int>(std::max<int64_t>(left + 1, 0));
    }
    poll(polled.data(), polled.size(), wait);

    signalfd_siginfo info;
    while (read(signal_fd.get(), &info, sizeof info) == sizeof info) {
      // The terminal's go to all processes in its foreground, and the ranks have theirs; but for the one of its end,
      // which goes to the process that the terminal was opened for, perhaps this one.
      const bool have_theirs = info.ssi_code == SI_KERNEL && info.ssi_signo != SIGHUP;
      if (info.ssi_signo != SIGCHLD && !have_theirs) Send(ranks, static_cast<int>(info.ssi_signo));
    }
    for (Rank& rank : ranks) ReadOutput(rank);
    for (Rank& rank : ranks) {
      int status = 0;
      if (rank.pid <= 0 || rank.status.has_value() || waitpid(rank.pid, &status, WNOHANG) != rank.pid) continue;
      rank.status = status;
      ReadOutput(rank);
      if (Failed(rank) && !failed.has_value()) {
        failed = rank.number;
        if (!deadline.has_value()) end_others();
      }
    }
    if (deadline.has_value() && Clock::now() >= *deadline) Send(ranks, SIGKILL);
  }
  for (Rank& rank : ranks) ReadOutput(rank);

  RETURN_IF_ERROR(started);
  if (const std::optional<size_t> own = FirstSaid(failures.get());
      own.has_value() && *own < ranks.size() && Failed(ranks[*own]))
    failed = own;
  if (failed.has_value()) return FailureOf(ranks[*failed], exit_code);
  if (exit_code != nullptr) *exit_code = 0;
  return absl::OkStatus();
}

std::vector<std::string> RankCommand(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"/proc/self/exe"};
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (absl::StartsWith(arguments[i], "--processes=")) continue;
    if (arguments[i] == "--processes") {
      ++i;
      continue;
    }
    command.push_back(arguments[i]);
  }
  return command;
}

}  // namespace graticule
