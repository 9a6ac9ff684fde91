#include "trainer/guard/watchdog.h"

#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/debugging/symbolize.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace graticule {
namespace {

// ---- Stacks ---------------------------------------------------------------------------------------------------------

constexpr int kMaxFrames = 100;
constexpr absl::Duration kPatience = absl::Seconds(3);  // with threads that do not answer

// What one thread answers.
struct Stack {
  pid_t thread = 0;
  uintptr_t interrupted_at = 0;
  int depth = 0;
  uintptr_t frames[kMaxFrames];  // within the calling instructions, the innermost first
  std::atomic<bool> complete = false;
};

uintptr_t ProgramCounter(const ucontext_t& context) {
#if defined(__x86_64__)
  return context.uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return context.uc_mcontext.pc;
#else
#error "the program counter of this processor"
#endif
}

_Unwind_Reason_Code AddFrame(_Unwind_Context* context, void* argument) {
  Stack& stack = *static_cast<Stack*>(argument);
  int before_instruction = 0;
  const uintptr_t address = _Unwind_GetIPInfo(context, &before_instruction);
  // The handler's own frames come first.
  if (stack.depth == 0 && address != stack.interrupted_at) return _URC_NO_REASON;
  if (address == 0 || stack.depth == kMaxFrames) return _URC_END_OF_STACK;
  // A return address may lie behind the last instruction of its function.
  stack.frames[stack.depth++] = before_instruction ? address : address - 1;
  return _URC_NO_REASON;
}

// Runs on the thread that is asked. The unwinder reads the tables that exceptions need, which every library has, where
// frame pointers are left out by the compiler; it takes no lock (glibc's _dl_find_object).
void AnswerWithStack(int, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  Stack& stack = *static_cast<Stack*>(info->si_value.sival_ptr);
  stack.interrupted_at = ProgramCounter(*static_cast<const ucontext_t*>(context));
  _Unwind_Backtrace(&AddFrame, &stack);
  if (stack.depth == 0) stack.frames[stack.depth++] = stack.interrupted_at;
  stack.complete.store(true, std::memory_order_release);
  errno = saved_errno;
}

std::vector<pid_t> OtherThreads() {
  const pid_t self = static_cast<pid_t>(syscall(SYS_gettid));
  std::vector<pid_t> threads;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", error)) {
    pid_t thread;
    if (absl::SimpleAtoi(entry.path().filename().string(), &thread) && thread != self) threads.push_back(thread);
  }
  std::sort(threads.begin(), threads.end());
  return threads;
}

void Ask(Stack& stack, int signal_number) {
  siginfo_t info;
  std::memset(&info, 0, sizeof(info));
  info.si_signo = signal_number;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_ptr = &stack;
  // A thread that has ended since, or a full queue: no answer.
  syscall(SYS_rt_tgsigqueueinfo, getpid(), stack.thread, signal_number, &info);
}

// ---- Text -----------------------------------------------------------------------------------------------------------

// The first line of a file under /proc/self/task/THREAD; empty where there is none.
std::string TaskFile(pid_t thread, const char* name) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/", name));
  std::string line;
  std::getline(file, line);
  return line;
}

// Of a thread that does not answer: "does not answer: D (disk sleep), in nfs_wait_bit_killable".
std::string DescribeSilent(pid_t thread) {
  std::string text = "does not answer";
  std::ifstream status(absl::StrCat("/proc/self/task/", thread, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("State:")) {
      const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits('\t', 1));
      absl::StrAppend(&text, ": ", words.back());
    }
  }
  const std::string kernel_function = TaskFile(thread, "wchan");
  if (kernel_function.size() > 1) absl::StrAppend(&text, ", in ", kernel_function);
  return text;
}

// Names addresses of this process.
class Symbols {
 public:
  Symbols() {
    std::error_code error;
    program_ = std::filesystem::read_symlink("/proc/self/exe", error).string();
    // 55d0…-55d1… r-xp 00001000 fe:01 1234   /usr/lib/libc.so.6
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(' ', 5));
      const std::vector<std::string> range = absl::StrSplit(fields[0], '-');
      if (fields.size() < 6 || range.size() != 2) continue;
      const std::string path = fields[5].substr(std::min(fields[5].find_first_not_of(' '), fields[5].size()));
      if (path.empty() || path[0] != '/') continue;
      const uintptr_t begin = std::stoull(range[0], nullptr, 16), end = std::stoull(range[1], nullptr, 16);
      // The mappings of a file follow each other.
      const bool same = !files_.empty() && files_.back().path == path;
      if (same) {
        files_.back().end = end;
      } else {
        files_.push_back({begin, end, path});
      }
    }
  }

  // "at::native::mm(libtorch_cpu.so)".
  const std::string& Name(uintptr_t address) {
    std::string& name = names_[address];
    if (name.empty()) name = Find(address);
    return name;
  }

 private:
  struct File {
    uintptr_t begin, end;
    std::string path;
  };

  std::string Find(uintptr_t address) const {
    char symbol[512];
    const bool found = absl::Symbolize(reinterpret_cast<void*>(address), symbol, sizeof(symbol));
    for (const File& file : files_) {
      if (address < file.begin || address >= file.end) continue;
      const std::string library = std::filesystem::path(file.path).filename().string();
      if (!found) return absl::StrFormat("%s+0x%x", library, address - file.begin);
      return file.path == program_ ? symbol : absl::StrCat(symbol, " (", library, ")");
    }
    return found ? symbol : absl::StrFormat("0x%x, code without a name", address);
  }

  std::string program_;
  std::vector<File> files_;
  std::map<uintptr_t, std::string> names_;
};

std::string StackText(const Stack& stack, Symbols& symbols) {
  if (!stack.complete.load(std::memory_order_acquire)) return absl::StrCat("    ", DescribeSilent(stack.thread), "\n");
  std::string text;
  for (int i = 0; i < stack.depth; ++i) absl::StrAppend(&text, "    ", symbols.Name(stack.frames[i]), "\n");
  if (stack.depth == kMaxFrames) absl::StrAppend(&text, "    …\n");
  return text;
}

// ---- The end --------------------------------------------------------------------------------------------------------

void WriteToStandardError(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(STDERR_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(count);
  }
}

// Of a process whose report hangs; written by a signal handler.
char last_words[256];

void LeaveReport(int) {
  pollfd standard_error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&standard_error, 1, 0) == 1 && (standard_error.revents & POLLOUT) != 0) {
    WriteToStandardError({last_words, std::strlen(last_words)});
  }
  _exit(1);
}

std::string Duration(double seconds) {
  if (seconds < 60) return absl::StrCat(seconds, " seconds");
  return seconds == 60 ? "1 minute" : absl::StrCat(seconds / 60, " minutes");
}

}  // namespace

std::string StacksOfAllThreads() {
  const int signal_number = SIGRTMAX;
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_sigaction = &AnswerWithStack;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigfillset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
  // What the unwinder sets up once, it sets up here.
  Stack ignored;
  _Unwind_Backtrace(&AddFrame, &ignored);

  // Never freed: a thread may answer late.
  static auto* const all_stacks = new std::list<std::vector<Stack>>;
  const std::vector<pid_t> threads = OtherThreads();
  std::vector<Stack>& stacks = all_stacks->emplace_back(threads.size());
  for (size_t i = 0; i < threads.size(); ++i) {
    stacks[i].thread = threads[i];
    Ask(stacks[i], signal_number);
  }
  const auto complete = [](const Stack& stack) { return stack.complete.load(std::memory_order_acquire); };
  for (absl::Duration waited; waited < kPatience && !std::all_of(stacks.begin(), stacks.end(), complete);) {
    constexpr absl::Duration kPause = absl::Milliseconds(5);
    absl::SleepFor(kPause);
    waited += kPause;
  }

  Symbols symbols;
  std::vector<std::pair<std::string, std::string>> groups;  // the threads, and the stack that they share
  for (const Stack& stack : stacks) {
    const std::string text = StackText(stack, symbols);
    const std::string thread =
        absl::StrCat(stack.thread, " (", TaskFile(stack.thread, "comm"), stack.thread == getpid() ? ", main)" : ")");
    const auto same =
        std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.second == text; });
    if (same != groups.end()) {
      absl::StrAppend(&same->first, ", ", thread);
    } else {
      groups.emplace_back(absl::StrCat("thread ", thread), text);
    }
  }
  std::string text;
  for (const auto& [names, stack] : groups) absl::StrAppend(&text, names, ":\n", stack);
  return text;
}

Watchdog::Watchdog(double stall_minutes, std::string report_place, std::function<void(const std::string&)> report,
                   int report_seconds)
    : stall_seconds_(stall_minutes * 60),
      report_place_(std::move(report_place)),
      report_(std::move(report)),
      report_seconds_(report_seconds),
      thread_([this] { Watch(); }) {
  absl::InitializeSymbolizer(program_invocation_name);
}

Watchdog::~Watchdog() {
  stop_.Notify();
  thread_.join();
}

void Watchdog::Watch() {
  pthread_setname_np(pthread_self(), "watchdog");
  // Counted, not measured: a process that was stopped for an hour has not been idle for one.
  constexpr int kTicks = 20;
  const absl::Duration tick = absl::Seconds(stall_seconds_ / kTicks);
  uint64_t seen = beats_.load(std::memory_order_relaxed);
  int idle_ticks = 0;
  while (!stop_.WaitForNotificationWithTimeout(tick)) {
    const uint64_t beats = beats_.load(std::memory_order_relaxed);
    idle_ticks = beats == seen ? idle_ticks + 1 : 0;
    seen = beats;
    if (idle_ticks == kTicks) EndProcess();
  }
}

void Watchdog::EndProcess() {
  const std::string what = absl::StrCat("no progress for ", Duration(stall_seconds_));
  absl::SNPrintF(last_words, sizeof(last_words), "graticule: %s, and the report of it hangs too\n", what);
  std::signal(SIGALRM, &LeaveReport);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(report_seconds_);

  const std::string text = absl::StrCat(
      what, " (no step, validation batch or checkpoint); the stacks of all threads:\n", StacksOfAllThreads());
  WriteToStandardError(text);
  report_(text);
  WriteToStandardError(absl::StrCat("graticule: ", what, "; the stacks of all threads are in ", report_place_, "\n"));
  _exit(1);
}

}  // namespace graticule
