#include "tests/faults/shim/fault_shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace graticule {
namespace {

struct Fault {
  int error = 0;  // 0: it is one of the others
  bool kills = false;
  bool skips = false;
  int milliseconds = 0;
  std::vector<std::string> calls;
  std::string path;
  int64_t after = 0;
  int64_t times = 0;
  int64_t happened = 0;
};

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

[[noreturn]] void Refuse(const std::string& fault, const std::string& why) {
  std::fprintf(stderr, "wrong fault '%s': %s\n", fault.c_str(), why.c_str());
  std::abort();
}

Fault ParseFault(const std::string& text) {
  const std::vector<std::string> parts = Split(text, ':');
  if (parts.size() < 3 || parts.size() > 5) Refuse(text, "expected WHAT:CALLS:PATH[:AFTER[:TIMES]]");
  Fault fault{.calls = Split(parts[1], ','), .path = parts[2]};
  if (parts[0] == "SIGKILL") {
    fault.kills = true;
  } else if (parts[0] == "SKIP") {
    if (parts[1] != "fsync") Refuse(text, "only fsync can be skipped");
    fault.skips = true;
  } else if (parts[0].rfind("SLEEP", 0) == 0) {
    fault.milliseconds = std::atoi(parts[0].c_str() + 5);
  } else {
    for (int error = 1; error < 134; ++error) {
      const char* const name = strerrorname_np(error);
      if (name != nullptr && parts[0] == name) fault.error = error;
    }
    if (fault.error == 0) Refuse(text, "unknown error " + parts[0]);
  }
  static const std::vector<std::string> kCalls = {"open",  "write",   "fsync",  "rename",
                                                  "mkdir", "symlink", "remove", "read"};
  for (const std::string& call : fault.calls) {
    if (std::find(kCalls.begin(), kCalls.end(), call) == kCalls.end()) Refuse(text, "unknown call " + call);
  }
  if (parts.size() > 3) fault.after = std::atoll(parts[3].c_str());
  if (parts.size() > 4) fault.times = std::atoll(parts[4].c_str());
  return fault;
}

class Faults {
 public:
  static Faults& Get() {
    static Faults& faults = *new Faults;
    return faults;
  }

  void Set(const std::string& text) {
    const std::lock_guard lock(mutex_);
    faults_.clear();
    for (const std::string& fault : Split(text, ';')) faults_.push_back(ParseFault(fault));
  }

  int Count() {
    const std::lock_guard lock(mutex_);
    int count = 0;
    for (const Fault& fault : faults_) count += fault.error != 0 ? static_cast<int>(fault.happened) : 0;
    return count;
  }

  bool empty() {
    const std::lock_guard lock(mutex_);
    return faults_.empty();
  }

  // What of `size` bytes, or of one call, may go on: all, a part, or nothing, with errno set; to 0 for a call that is
  // skipped.
  int64_t Allow(std::string_view call, const std::string& path, int64_t size) {
    int milliseconds = 0;
    {
      const std::lock_guard lock(mutex_);
      for (Fault& fault : faults_) {
        if (std::find(fault.calls.begin(), fault.calls.end(), call) == fault.calls.end()) continue;
        if (path.find(fault.path) == std::string::npos) continue;
        if (fault.after > 0) {
          size = std::min(size, fault.after);
          fault.after -= size;
          continue;
        }
        if (fault.times > 0 && fault.happened >= fault.times) continue;
        ++fault.happened;
        if (fault.kills) kill(getpid(), SIGKILL);
        milliseconds += fault.milliseconds;
        if (fault.error == 0 && !fault.skips) continue;
        errno = fault.error;
        return 0;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return size;
  }

 private:
  Faults() {
    const char* const text = std::getenv(kFaultVariable);
    if (text != nullptr) Set(text);
  }

  std::mutex mutex_;
  std::vector<Fault> faults_;
};

std::string LinkTarget(const std::string& link) {
  char target[4096];
  const ssize_t size = readlink(link.c_str(), target, sizeof(target));
  return size < 0 ? "" : std::string(target, size);
}

std::string PathOf(int fd) { return LinkTarget("/proc/self/fd/" + std::to_string(fd)); }

std::string PathAt(int folder, const char* path) {
  if (path[0] == '/') return path;
  return (folder == AT_FDCWD ? LinkTarget("/proc/self/cwd") : PathOf(folder)) + "/" + path;
}

// How many of the bytes may go on; negative for a call that fails.
int64_t AllowBytes(std::string_view call, int fd, int64_t size) {
  if (size == 0 || Faults::Get().empty()) return size;
  const int64_t allowed = Faults::Get().Allow(call, PathOf(fd), size);
  return allowed == 0 ? -1 : allowed;
}

bool AllowCall(std::string_view call, int folder, const char* path) {
  return Faults::Get().empty() || Faults::Get().Allow(call, PathAt(folder, path), 1) > 0;
}

// Of those that only write a file to the disk.
template <typename Function>
int Sync(int fd, Function* function) {
  if (Faults::Get().empty() || Faults::Get().Allow("fsync", PathOf(fd), 1) > 0) return function(fd);
  return errno == 0 ? 0 : -1;
}

bool AllowOpen(int folder, const char* path, int flags) {
  const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0;
  return !writes || AllowCall("open", folder, path);
}

// The function that a function of this name stands before.
template <typename Function>
Function* Next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

void SetFaults(const std::string& faults) { Faults::Get().Set(faults); }
int FaultCount() { return Faults::Get().Count(); }

}  // namespace graticule

#define NEXT(name)                                           \
  ([] {                                                      \
    static auto* const next = graticule::Next(&name, #name); \
    return next;                                             \
  }())

#define OPEN_MODE(mode, flags)                \
  mode_t mode = 0;                            \
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) { \
    va_list arguments;                        \
    va_start(arguments, flags);               \
    mode = va_arg(arguments, mode_t);         \
    va_end(arguments);                        \
  }

// The functions of the C library that take the calls.
extern "C" {

int open(const char* path, int flags, ...) {
  OPEN_MODE(mode, flags)
  return graticule::AllowOpen(AT_FDCWD, path, flags) ? NEXT(open)(path, flags, mode) : -1;
}

int open64(const char* path, int flags, ...) {
  OPEN_MODE(mode, flags)
  return graticule::AllowOpen(AT_FDCWD, path, flags) ? NEXT(open64)(path, flags, mode) : -1;
}

int openat(int folder, const char* path, int flags, ...) {
  OPEN_MODE(mode, flags)
  return graticule::AllowOpen(folder, path, flags) ? NEXT(openat)(folder, path, flags, mode) : -1;
}

int openat64(int folder, const char* path, int flags, ...) {
  OPEN_MODE(mode, flags)
  return graticule::AllowOpen(folder, path, flags) ? NEXT(openat64)(folder, path, flags, mode) : -1;
}

FILE* fopen(const char* path, const char* mode) {
  const int flags = std::strcspn(mode, "wa+") < std::strlen(mode) ? O_WRONLY : O_RDONLY;
  return graticule::AllowOpen(AT_FDCWD, path, flags) ? NEXT(fopen)(path, mode) : nullptr;
}

FILE* fopen64(const char* path, const char* mode) {
  const int flags = std::strcspn(mode, "wa+") < std::strlen(mode) ? O_WRONLY : O_RDONLY;
  return graticule::AllowOpen(AT_FDCWD, path, flags) ? NEXT(fopen64)(path, mode) : nullptr;
}

ssize_t write(int fd, const void* bytes, size_t size) {
  const int64_t allowed = graticule::AllowBytes("write", fd, size);
  return allowed < 0 ? -1 : NEXT(write)(fd, bytes, allowed);
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
  const int64_t allowed = graticule::AllowBytes("write", fd, size);
  return allowed < 0 ? -1 : NEXT(pwrite)(fd, bytes, allowed, at);
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
  const int64_t allowed = graticule::AllowBytes("write", fd, size);
  return allowed < 0 ? -1 : NEXT(pwrite64)(fd, bytes, allowed, at);
}

// Of several parts the first alone, which is a short write.
ssize_t writev(int fd, const iovec* parts, int count) {
  if (graticule::Faults::Get().empty()) return NEXT(writev)(fd, parts, count);
  for (int i = 0; i < count; ++i) {
    if (parts[i].iov_len > 0) return write(fd, parts[i].iov_base, parts[i].iov_len);
  }
  return 0;
}

ssize_t read(int fd, void* bytes, size_t size) {
  const int64_t allowed = graticule::AllowBytes("read", fd, size);
  return allowed < 0 ? -1 : NEXT(read)(fd, bytes, allowed);
}

int fsync(int fd) { return graticule::Sync(fd, NEXT(fsync)); }
int fdatasync(int fd) { return graticule::Sync(fd, NEXT(fdatasync)); }

int rename(const char* from, const char* to) noexcept {
  return graticule::AllowCall("rename", AT_FDCWD, to) ? NEXT(rename)(from, to) : -1;
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  return graticule::AllowCall("rename", to_folder, to) ? NEXT(renameat)(from_folder, from, to_folder, to) : -1;
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned int flags) noexcept {
  if (!graticule::AllowCall("rename", to_folder, to)) return -1;
  return NEXT(renameat2)(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) noexcept {
  return graticule::AllowCall("mkdir", AT_FDCWD, path) ? NEXT(mkdir)(path, mode) : -1;
}

int symlink(const char* target, const char* path) noexcept {
  return graticule::AllowCall("symlink", AT_FDCWD, path) ? NEXT(symlink)(target, path) : -1;
}

int unlink(const char* path) noexcept {
  return graticule::AllowCall("remove", AT_FDCWD, path) ? NEXT(unlink)(path) : -1;
}
int rmdir(const char* path) noexcept { return graticule::AllowCall("remove", AT_FDCWD, path) ? NEXT(rmdir)(path) : -1; }
int remove(const char* path) noexcept {
  return graticule::AllowCall("remove", AT_FDCWD, path) ? NEXT(remove)(path) : -1;
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  return graticule::AllowCall("remove", folder, path) ? NEXT(unlinkat)(folder, path, flags) : -1;
}

}  // extern "C"
